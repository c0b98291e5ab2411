package conformance

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// strictBackend answers each request with 200, and notes what it got. Of anything that isn't
// exactly one request after another it says so.
type strictBackend struct {
	*backend
	mu   sync.Mutex
	seen []string
	odd  string
}

func strict(t testing.TB) *strictBackend {
	b := new(strictBackend)
	b.backend = listen(t, func(c net.Conn, _ int) {
		var raw bytes.Buffer
		r := bufio.NewReader(io.TeeReader(c, &raw))
		for {
			_, err := r.Peek(1)
			if err != nil {
				return
			}
			req, err := http.ReadRequest(r)
			if err != nil {
				b.note("", fmt.Sprintf("%v in %q", err, raw.Bytes()))
				return
			}
			body, err := io.ReadAll(req.Body)
			if err != nil {
				return // the client broke off
			}
			if len(req.TransferEncoding) > 0 && req.ContentLength > 0 || len(req.Header["Content-Length"]) > 1 {
				b.note("", fmt.Sprintf("two lengths in %q", raw.Bytes()))
			}
			b.note(fmt.Sprintf("%s %s %d", req.Method, req.RequestURI, len(body)), "")
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nServer: reuseportd\r\nContent-Length: 0\r\n\r\n")
		}
	})
	return b
}

func (b *strictBackend) note(seen, odd string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if seen != "" {
		b.seen = append(b.seen, seen)
	}
	if b.odd == "" {
		b.odd = odd
	}
}

// take returns the requests since the last time.
func (b *strictBackend) take() (seen []string, odd string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	seen, odd = b.seen, b.odd
	b.seen, b.odd = nil, ""
	return seen, odd
}

// TestProxyCases passes every case of requests on, whole and split. A request that is refused
// never reaches the server, not even a part of it that another would take for a whole, and
// of one that is answered the server sees just that.
func TestProxyCases(t *testing.T) {
	b := strict(t)
	conf := proxying()
	conf.MaxHeader, conf.MaxBody = 2048, 4096
	s, _ := front(t, "unix", conf, app(b.addr))
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			in := strings.Replace(c.in, "…", last, 1)
			want := c.want
			if !strings.HasPrefix(in, "OPTIONS *") { // which goes no further
				want = strings.Replace(want, "204", "200", 1)
			}
			check := func(parts ...string) {
				t.Helper()
				raw := s.feed(t, parts...)
				got := statuses(parseAll(t, raw, methodsOf(c.in)...))
				seen, odd := b.take()
				if got != want || odd != "" {
					t.Fatalf("%.100q: got %s, want %s; the server: %s\n%s", parts, got, want, odd, raw)
				}
				if n := strings.Count(got, "200"); len(seen) != n {
					t.Fatalf("%.100q: the server saw %q of %d requests", parts, seen, n)
				}
			}
			check(in)
			end := len(in)
			if c.want == "200" {
				end = strings.Index(c.in, "…") // see TestSplits
			}
			for i := 1; i < end; i += 1 + end/12 {
				check(in[:i], in[i:])
			}
		})
	}
}

// FuzzProxyRequests sends any bytes: what the server sees are the requests that net/http finds
// in them, or the first ones of them, each with its body.
func FuzzProxyRequests(f *testing.F) {
	for _, c := range cases {
		f.Add([]byte(strings.Replace(c.in, "…", last, 1)))
	}
	b := strict(f)
	s, _ := front(f, "unix", proxying(), app(b.addr))
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) > 20_000 {
			return
		}
		s.throw(t, in)
		s.waitFor(t, "the end", func(k eventCounters) bool { return k.Open == 0 })
		seen, odd := b.take()
		methods, refused := understood(in)
		if odd != "" {
			t.Fatalf("%q: %s", in, odd)
		}
		methods = slices.DeleteFunc(methods, func(m string) bool { return m == "OPTIONS" }) // "*" goes no further
		seen = slices.DeleteFunc(seen, func(s string) bool { return strings.HasPrefix(s, "OPTIONS ") })
		for i, one := range seen {
			if i >= len(methods) && !refused || i < len(methods) && !strings.HasPrefix(one, methods[i]+" ") {
				t.Fatalf("%q: the server saw %q, net/http finds %q", in, seen, methods)
			}
		}
	})
}

// FuzzProxyResponses has a server send any bytes: what the client gets is an answer of ours, or what
// net/http finds in them, and never whole if it isn't there.
func FuzzProxyResponses(f *testing.F) {
	for _, raw := range []string{
		ok, "HTTP/1.1 200 OK\r\n\r\nuntil close", "HTTP/1.0 204 X\r\n\r\n", "HTTP/1.1 103 X\r\n\r\n" + ok + "more",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nA: b\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc",
	} {
		f.Add([]byte(raw))
	}
	var mu sync.Mutex
	var answer []byte
	b := listen(f, func(c net.Conn, _ int) {
		if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil {
			return
		}
		mu.Lock()
		raw := answer
		mu.Unlock()
		_, _ = c.Write(raw)
	})
	conf, up := proxying(), app(b.addr)
	up.MaxFailures, up.Retries = 0, 0
	conf.Routes[0].Proxy.ResponseTimeout = 5 * time.Second
	s, _ := front(f, "tcp", conf, up)
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) > 20_000 {
			return
		}
		mu.Lock()
		answer = raw
		mu.Unlock()
		c, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
		got, _ := io.ReadAll(c)
		ours, whole := final(got)
		theirs, theirsWhole := final(raw)
		switch {
		case whole && strings.HasSuffix(ours, `502 "502 Bad Gateway\n" `):
		case !whole && !theirsWhole:
		case whole && ours != theirs:
			t.Fatalf("of %q came %q", raw, got)
		case whole && !theirsWhole:
			t.Fatalf("a whole answer %q of %q", got, raw)
		}
	})
}

// final reads interim responses and the final one, and reports whether that is whole.
func final(raw []byte) (all string, whole bool) {
	r := bufio.NewReader(bytes.NewReader(raw))
	for {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			return all, false
		}
		body, err := io.ReadAll(resp.Body)
		all += fmt.Sprintf("%d %q ", resp.StatusCode, body)
		if resp.StatusCode >= 200 {
			return all, err == nil
		}
	}
}
