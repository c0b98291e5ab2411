package conformance

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"reuseportd/internal/eventloop"
	service "reuseportd/internal/service/http"
)

const get = "GET / HTTP/1.1\r\nHost: h\r\n\r\n"

// read reads one answer.
func read(t testing.TB, r *bufio.Reader, method string) answer {
	t.Helper()
	resp, err := http.ReadResponse(r, &http.Request{Method: method})
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(body), resp.Close}
}

// nothingMore wants the connection's end and no byte before it.
func nothingMore(t testing.TB, r *bufio.Reader) {
	t.Helper()
	if b, err := r.ReadByte(); err != io.EOF {
		t.Fatalf("got %q, %v, want the end", b, err)
	}
}

// TestAnswersAreTheirOwn: what one connection asked has no effect on the
// answer to another, whatever room the two share.
func TestAnswersAreTheirOwn(t *testing.T) {
	s := serve(t, "unix", base(""), service.Options{AccessLog: -1})
	want := map[string]string{}
	bad := []string{
		"GET /" + strings.Repeat("a", 600), "GET / HTTP/1.1\r\nHost: h\r\nX: " + strings.Repeat("a", 2100),
		"\r\n\r\nx", "GET / HTTP/1.1\nHost: h\r\n\r\n", "x", "GET / HTTP/3.0\r\n\r\n",
	}
	for _, b := range bad {
		s.feed(t, last)
		want[b] = undated(s.feedAndShut(t, b))
	}
	for _, before := range []string{
		"HEAD / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
		"GET / HTTP/1.0\r\n\r\n", "HEAD http://other.example/%41 HTTP/1.0\r\nUser-Agent: secret\r\n\r\n",
	} {
		for _, b := range bad {
			s.feed(t, before)
			if got := undated(s.feedAndShut(t, b)); got != want[b] {
				t.Errorf("%.40q after %.40q: got %q, want %q", b, before, got, want[b])
			}
		}
	}
}

// feedAndShut is feed, with the client's end behind the last part.
func (s *server) feedAndShut(t testing.TB, parts ...string) string {
	t.Helper()
	c := s.dial(t)
	defer c.Close()
	s.send(t, c, parts...)
	_ = c.(interface{ CloseWrite() error }).CloseWrite()
	got, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(got)
}

// TestHalfClose: a client that has shut its side still gets every answer.
func TestHalfClose(t *testing.T) {
	s := serve(t, "tcp", base(""), service.Options{AccessLog: -1})
	raw := s.feedAndShut(t, strings.Repeat("GET /big HTTP/1.1\r\nHost: h\r\n\r\n", 20)+"GET / HT")
	if all := parseAll(t, raw); len(all) < 20 || len(all[19].body) != 100<<10 {
		t.Fatalf("got %d answers", len(all))
	}
}

// TestRefusedUpload: the answer arrives though the client goes on sending.
func TestRefusedUpload(t *testing.T) {
	s := serve(t, "tcp", base(""), service.Options{AccessLog: -1})
	for range 20 {
		c := s.dial(t)
		go func() {
			_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 8000000\r\n\r\n")
			_, _ = c.Write(make([]byte, 8000000))
			_ = c.(*net.TCPConn).CloseWrite()
		}()
		raw, err := io.ReadAll(c)
		if all := parseAll(t, string(raw)); err != nil || statuses(all) != "413" {
			t.Fatalf("got %q, %v", raw, err)
		}
		c.Close()
	}
}

// TestExpect: 100 is sent before the body comes, and not without need.
func TestExpect(t *testing.T) {
	s := serve(t, "unix", base(""), service.Options{AccessLog: -1})
	for _, body := range []struct{ field, bytes string }{
		{"Content-Length: 5", "hello"}, {"Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n"},
	} {
		head := "POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n" + body.field + "\r\n\r\n"
		c := s.dial(t)
		r := bufio.NewReader(c)
		_, _ = io.WriteString(c, head)
		if a := read(t, r, "POST"); a.status != 100 || len(a.header) != 0 {
			t.Fatalf("got %+v", a)
		}
		_, _ = io.WriteString(c, body.bytes+last)
		if a, b := read(t, r, "POST"), read(t, r, "GET"); a.status != 200 || b.status != 200 {
			t.Fatalf("got %+v, %+v", a, b)
		}
		nothingMore(t, r)
	}
	if got := statuses(parseAll(t, s.feed(t, "POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n", "x"))); got != "200" {
		t.Errorf("HTTP/1.0 must not hear of 100: got %s", got)
	}
	if got := statuses(parseAll(t, s.feed(t, "POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5000\r\n\r\n"))); got != "413" {
		t.Errorf("a body that will be refused is not asked for: got %s", got)
	}
}

// TestDrain: an idle connection stays until its next answer, which says that it
// is the last; requests that have arrived are all answered first.
func TestDrain(t *testing.T) {
	s := serve(t, "tcp", base(""), service.Options{AccessLog: -1})
	open := func(first string) (net.Conn, *bufio.Reader) {
		c := s.dial(t)
		r := bufio.NewReader(c)
		s.send(t, c, first)
		return c, r
	}
	idle, idleR := open(get)
	read(t, idleR, "GET")
	half, halfR := open(get[:10])
	body, bodyR := open("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhe")
	bulk, bulkR := open(get)
	read(t, bulkR, "GET")
	fresh, freshR := open("")
	many, manyR := open(get[:4])
	s.onLoop(func() { s.Drain() })

	time.Sleep(50 * time.Millisecond) // nothing may happen in it
	if k := s.count(); k.Closed != 0 {
		t.Fatalf("%d connections were closed without an answer", k.Closed)
	}
	last := func(r *bufio.Reader) {
		t.Helper()
		if a := read(t, r, "GET"); a.status != 200 || !a.close {
			t.Fatalf("got %+v, want the last answer", a)
		}
		nothingMore(t, r)
	}
	_, _ = io.WriteString(idle, get)
	last(idleR)
	_, _ = io.WriteString(half, get[10:])
	last(halfR)
	s.send(t, body, "l")
	_, _ = io.WriteString(body, "lo")
	last(bodyR)
	_, _ = io.WriteString(fresh, get)
	last(freshR)
	_, _ = io.WriteString(bulk, get+"GET /big HTTP/1.1\r\nHost: h\r\n\r\n"+get+get)
	for range 3 {
		if a := read(t, bulkR, "GET"); a.close {
			t.Fatal("an answer said close though requests behind it had arrived")
		}
	}
	last(bulkR)
	s.send(t, many, get[4:]+get[:10])
	if a := read(t, manyR, "GET"); a.close {
		t.Fatal("an answer said close though half a request behind it had arrived")
	}
	_, _ = io.WriteString(many, get[10:])
	last(manyR)
}

// TestTimeouts: each phase of a request has its own, and single bytes don't
// prolong a head's.
func TestTimeouts(t *testing.T) {
	conf := base("")
	conf.HeaderTimeout, conf.BodyTimeout, conf.KeepaliveTimeout = 300*time.Millisecond, 200*time.Millisecond, 150*time.Millisecond
	s := serve(t, "tcp", conf, service.Options{AccessLog: -1})
	// trickle sends byte after byte and returns what came and how long it took.
	trickle := func(first, rest string) (string, time.Duration) {
		c := s.dial(t)
		start := time.Now()
		_, _ = io.WriteString(c, first)
		stop := make(chan struct{})
		defer close(stop)
		go func() {
			for i := range rest {
				select {
				case <-stop:
					return
				case <-time.After(20 * time.Millisecond):
				}
				_, _ = io.WriteString(c, rest[i:i+1])
			}
		}()
		raw, err := io.ReadAll(c)
		if err != nil {
			t.Fatal(err)
		}
		return undated(string(raw)), time.Since(start)
	}
	for _, c := range []struct {
		name, first, rest, want string
		least                   time.Duration
	}{
		{"nothing", "", "", "", conf.HeaderTimeout},
		{"idle", get, "", "200", conf.KeepaliveTimeout},
		{"half a head", get[:9], "", "408", conf.HeaderTimeout},
		{"a trickled head", get[:9], strings.Repeat("a", 100), "408", conf.HeaderTimeout},
		{"a trickled second head", get, "GET /" + strings.Repeat("a", 100), "200 408", conf.HeaderTimeout},
		{"half a body", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhe", "", "408", conf.BodyTimeout},
		{"a slow body", "POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 20\r\n\r\n", strings.Repeat("a", 20), "200", 20 * 20 * time.Millisecond},
		{"an empty line", get + "\r\n", "", "200", conf.KeepaliveTimeout},
	} {
		t.Run(c.name, func(t *testing.T) {
			raw, took := trickle(c.first, c.rest)
			if got := statuses(parseAll(t, raw)); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if took < c.least-10*time.Millisecond || took > c.least+2*time.Second {
				t.Errorf("took %v, want %v", took, c.least)
			}
		})
	}
}

// TestGreedyPipeline: a client that sends and never reads is not read for ever.
func TestGreedyPipeline(t *testing.T) {
	s := serve(t, "tcp", base(""), service.Options{AccessLog: -1})
	c := s.dial(t)
	_ = c.SetWriteDeadline(time.Now().Add(700 * time.Millisecond))
	one := []byte(strings.Repeat(get, 1000))
	sent := 0
	for {
		n, err := c.Write(one)
		sent += n
		if err != nil {
			break
		}
		if sent > 256<<20 {
			t.Fatal("256 MiB of requests were taken though no answer was read")
		}
	}
	// Now it reads: nothing is missing.
	_ = c.(*net.TCPConn).CloseWrite()
	start := time.Now()
	raw, err := io.ReadAll(c)
	if err != nil {
		t.Fatalf("%v; sent %d (%d requests), read %d in %v; %+v", err, sent, sent/len(get), len(raw), time.Since(start), s.count())
	}
	if got, want := bytes.Count(raw, []byte("HTTP/1.1 200")), sent/len(get); got != want {
		t.Fatalf("%d answers to %d requests", got, want)
	}
}

// TestRequestsAreCounted: once each, refusals among them.
func TestRequestsAreCounted(t *testing.T) {
	s := serve(t, "unix", base(""), service.Options{AccessLog: -1})
	s.feed(t, get+get, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\na", "bc"+last)
	s.feed(t, "bad\r\n\r\n")
	if k := s.count(); k.Requests != 5 {
		t.Errorf("counted %d requests, want 5", k.Requests)
	}
}

type eventCounters = eventloop.Counters
