package http

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/config"
	"reuseportd/internal/eventloop"
)

// server is a site in a loop of its own.
type server struct {
	t    testing.TB
	loop *eventloop.Loop
	addr string
}

func testConfig() *config.HTTP {
	return &config.HTTP{
		HeaderTimeout: 10 * time.Second, BodyTimeout: 10 * time.Second,
		KeepaliveTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second,
		MaxRequestLine: 256, MaxHeader: 1024, MaxBody: 1000,
		Routes: []config.Route{
			{Path: "/", Respond: &config.Respond{Status: 200, Body: []byte("hello\n")}},
			{Path: "/two", Respond: &config.Respond{
				Status: 202, Body: []byte("two\n"),
				Headers: []config.Header{{Name: "X-A", Value: "b"}, {Name: "content-type", Value: "text/x"}},
			}},
			{Path: "/none", Respond: &config.Respond{Status: 204}},
			{Path: "/big", Respond: &config.Respond{Status: 200, Body: bytes.Repeat([]byte("0123456789abcdef"), 1<<16)}},
			{Host: "h", Path: "/only", Respond: &config.Respond{Status: 200, Body: []byte("h\n")}},
			{Host: "h", Path: "/", Respond: &config.Respond{Status: 200, Body: []byte("host\n")}},
		},
	}
}

func serve(t testing.TB, c *config.HTTP, o Options) *server {
	t.Helper()
	site, err := NewSite(c, o)
	if err != nil {
		t.Fatal(err)
	}
	l, err := eventloop.New(eventloop.Options{Panicked: func(v any, stack []byte) {
		t.Errorf("panic: %v\n%s", v, stack)
	}})
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
		unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(fd, 128))
	sa, nameErr := unix.Getsockname(fd)
	if err = errors.Join(err, nameErr); err != nil {
		t.Fatal(err)
	}
	l.Post(func() {
		if _, err := l.Listen(fd, l.NewService(New(l, site), c.WriteTimeout), false); err != nil {
			t.Error(err)
		}
	})
	done := make(chan error, 1)
	go func() { done <- l.Run() }()
	t.Cleanup(func() {
		l.Post(l.Stop)
		if err := <-done; err != nil {
			t.Error(err)
		}
		site.Close()
	})
	return &server{t: t, loop: l, addr: fmt.Sprintf("127.0.0.1:%d", sa.(*unix.SockaddrInet4).Port)}
}

func (s *server) dial() *net.TCPConn {
	s.t.Helper()
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return c.(*net.TCPConn)
}

var dates = regexp.MustCompile(`Date: [^\r]*\r\n`)

// exchange sends the pieces, one segment each, then shuts its side if asked, and
// returns all that comes back until the server closes, without the dates.
func (s *server) exchange(shut bool, pieces ...string) string {
	s.t.Helper()
	c := s.dial()
	for _, p := range pieces {
		if _, err := io.WriteString(c, p); err != nil {
			break // refused already: what was said stands in the input
		}
	}
	if shut {
		_ = c.CloseWrite()
	}
	out, err := io.ReadAll(c)
	if err != nil {
		s.t.Errorf("after %q: %v", pieces, err)
	}
	return dates.ReplaceAllString(string(out), "")
}

const (
	okHead = "HTTP/1.1 200 OK\r\nServer: reuseportd\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 6\r\n"
	okay   = okHead + "\r\nhello\n"
	okEnd  = okHead + "Connection: close\r\n\r\nhello\n"
)

func TestConversations(t *testing.T) {
	s := serve(t, testConfig(), Options{AccessLog: -1})
	for name, tc := range map[string]struct{ in, out string }{
		"close":           {"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", okEnd},
		"kept":            {"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n\r\n", okay + okEnd},
		"HTTP/1.0":        {"GET / HTTP/1.0\r\n\r\n", okEnd},
		"HTTP/1.0 kept":   {"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET / HTTP/1.0\r\n\r\n", okHead + "Connection: keep-alive\r\n\r\nhello\n" + okEnd},
		"HEAD":            {"HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", okHead + "Connection: close\r\n\r\n"},
		"any method":      {"BREW / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", okEnd},
		"empty line":      {"\r\nGET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", okEnd},
		"other route":     {"GET /two HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "HTTP/1.1 202 Accepted\r\nServer: reuseportd\r\nX-A: b\r\ncontent-type: text/x\r\nContent-Length: 4\r\nConnection: close\r\n\r\ntwo\n"},
		"below it":        {"GET /two/x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "HTTP/1.1 202 Accepted\r\nServer: reuseportd\r\nX-A: b\r\ncontent-type: text/x\r\nContent-Length: 4\r\nConnection: close\r\n\r\ntwo\n"},
		"not below it":    {"GET /twox HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", okEnd},
		"no content":      {"GET /none HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "HTTP/1.1 204 No Content\r\nServer: reuseportd\r\nConnection: close\r\n\r\n"},
		"host":            {"GET / HTTP/1.1\r\nHost: H:80\r\nConnection: close\r\n\r\n", strings.ReplaceAll(strings.ReplaceAll(okEnd, "hello", "host"), "Length: 6", "Length: 5")},
		"body":            {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabcdeGET / HTTP/1.0\r\n\r\n", okay + okEnd},
		"chunked body":    {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n3;x=\"y\"\r\nabc\r\n0A\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\nGET / HTTP/1.0\r\n\r\n", okay + okEnd},
		"expected body":   {"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\nConnection: close\r\n\r\n", "HTTP/1.1 100 Continue\r\n\r\n"},
		"asterisk":        {"OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "HTTP/1.1 204 No Content\r\nServer: reuseportd\r\nAllow: GET, HEAD, OPTIONS\r\nConnection: close\r\n\r\n"},
		"refused":         {"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\n\r\n", okay + refusal(400)},
		"large body":      {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n", refusal(413)},
		"large chunks":    {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n", refusal(413)},
		"bad chunk":       {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n", refusal(400)},
		"0x chunk":        {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n", refusal(400)},
		"long chunk data": {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n", refusal(400)},
		"huge chunk":      {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n", refusal(400)},
		"chunk with LF":   {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\na\r\n0\r\n\r\n", refusal(400)},
		"bad trailer":     {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX : y\r\n\r\n", refusal(400)},
	} {
		t.Run(name, func(t *testing.T) {
			s.t = t
			if out := s.exchange(true, tc.in); out != tc.out {
				t.Errorf("at once:\n got %q\nwant %q", out, tc.out)
			}
			if out := s.exchange(true, strings.Split(tc.in, "")...); out != tc.out {
				t.Errorf("byte by byte:\n got %q\nwant %q", out, tc.out)
			}
			if testing.Short() {
				return
			}
			for i := 1; i < len(tc.in); i += 7 {
				if out := s.exchange(true, tc.in[:i], tc.in[i:]); out != tc.out {
					t.Errorf("split at %d:\n got %q\nwant %q", i, out, tc.out)
				}
			}
		})
	}
}

func refusal(status int) string {
	body := fmt.Sprintf("%d %s\n", status, reason(status))
	return fmt.Sprintf("HTTP/1.1 %d %s\r\nServer: reuseportd\r\nContent-Type: text/plain; charset=utf-8\r\n"+
		"Content-Length: %d\r\nConnection: close\r\n\r\n%s", status, reason(status), len(body), body)
}

// TestPipelinedBigAnswers sends far more requests than output may wait.
func TestPipelinedBigAnswers(t *testing.T) {
	s := serve(t, testConfig(), Options{AccessLog: -1})
	c := s.dial()
	const n = 20
	go func() {
		for range n {
			_, _ = io.WriteString(c, "GET /big HTTP/1.1\r\nHost: a\r\n\r\n")
		}
	}()
	r := bufio.NewReader(c)
	for i := range n {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil || len(body) != 1<<20 {
			t.Fatalf("answer %d: %d bytes, %v", i, len(body), err)
		}
	}
}

// TestTimeouts: a head that trickles in is not kept waiting for by its trickle.
func TestTimeouts(t *testing.T) {
	conf := testConfig()
	conf.HeaderTimeout, conf.BodyTimeout, conf.KeepaliveTimeout = 200*time.Millisecond, 200*time.Millisecond, 200*time.Millisecond
	s := serve(t, conf, Options{AccessLog: -1})
	if out := s.exchange(false); out != "" {
		t.Errorf("a client that says nothing gets %q", out)
	}
	if out := s.exchange(false, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); out != okay {
		t.Errorf("an idle client gets %q", out)
	}
	if out := s.exchange(false, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\na"); out != refusal(408) {
		t.Errorf("a client that stops in its body gets %q", out)
	}
	c := s.dial()
	began := time.Now()
	go func() {
		for {
			if _, err := io.WriteString(c, "G"); err != nil {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	}()
	out, _ := io.ReadAll(c)
	if got := dates.ReplaceAllString(string(out), ""); got != refusal(408) {
		t.Errorf("a client that trickles gets %q", got)
	}
	if d := time.Since(began); d > 5*time.Second {
		t.Errorf("a client that trickles is ended after %s", d)
	}
}

// TestDrain: idle connections live until their next answer, and what was
// pipelined is answered before the one that says close.
func TestDrain(t *testing.T) {
	s := serve(t, testConfig(), Options{AccessLog: -1})
	c := s.dial()
	r := bufio.NewReader(c)
	ask := func(text string, closes ...bool) {
		t.Helper()
		if _, err := io.WriteString(c, text); err != nil {
			t.Fatal(err)
		}
		for i, want := range closes {
			resp, err := http.ReadResponse(r, nil)
			if err != nil {
				t.Fatalf("answer %d: %v", i, err)
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			if resp.Close != want {
				t.Errorf("answer %d: close is %v, want %v", i, resp.Close, want)
			}
		}
	}
	const get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
	ask(get, false)
	drained := make(chan struct{})
	s.loop.Post(func() { s.loop.Drain(); close(drained) })
	<-drained
	ask(get+get+get[:10], false, false)
	ask(get[10:], true)
	if _, err := r.ReadByte(); err != io.EOF {
		t.Errorf("after the last answer: %v, want EOF", err)
	}
}

// TestNothingAllocated holds that a kept-alive request costs no allocation, with
// the access log and without.
func TestNothingAllocated(t *testing.T) {
	file, err := os.CreateTemp(t.TempDir(), "access")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for _, log := range []*config.AccessLog{nil, {Format: "combined"}, {Format: "json"}} {
		conf := testConfig()
		conf.AccessLog = log
		s := serve(t, conf, Options{AccessLog: int(file.Fd())})
		c := s.dial()
		request := []byte("GET /two?x HTTP/1.1\r\nHost: Some.Host:80\r\nUser-Agent: test\r\nAccept: */*\r\n\r\n")
		answer := make([]byte, 4096)
		once := func() {
			_, err := c.Write(request)
			if err != nil {
				t.Fatal(err)
			}
			if _, err = c.Read(answer); err != nil {
				t.Fatal(err)
			}
		}
		for range 100 {
			once()
		}
		if n := testing.AllocsPerRun(2000, once); n > 0 && !raceEnabled {
			t.Errorf("access log %+v: %v allocations a request", log, n)
		}
	}
}

func TestAccessLog(t *testing.T) {
	file, err := os.CreateTemp(t.TempDir(), "access")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	conf := testConfig()
	conf.AccessLog = &config.AccessLog{Format: "combined"}
	t.Run("", func(t *testing.T) {
		s := serve(t, conf, Options{AccessLog: int(file.Fd())})
		s.exchange(true, "GET /two HTTP/1.1\r\nHost: a\r\nReferer: \"x\\\r\nUser-Agent: \xff\r\nConnection: close\r\n\r\n")
	})
	text, err := os.ReadFile(file.Name())
	if err != nil {
		t.Fatal(err)
	}
	want := regexp.MustCompile(`^127\.0\.0\.1 - - \[[^]]+\] "GET /two HTTP/1\.1" 202 4 "\\x22x\\x5c" "\\xff"` + "\n$")
	if !want.Match(text) {
		t.Errorf("log has %q", text)
	}
}

// TestAccessLogThatIsStuck drops and counts, and serves on.
func TestAccessLogThatIsStuck(t *testing.T) {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	conf := testConfig()
	conf.AccessLog = &config.AccessLog{Format: "json"}
	s := serve(t, conf, Options{AccessLog: pipe[1]})
	c := s.dial()
	r := bufio.NewReader(c)
	request := "GET /" + strings.Repeat("a", 200) + " HTTP/1.1\r\nHost: a\r\n\r\n"
	for range 8000 { // more than the ring and the pipe hold
		if _, err := io.WriteString(c, request); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
	}
	dropped := make(chan uint64)
	s.loop.Post(func() { dropped <- s.loop.Count().LogDropped })
	if n := <-dropped; n == 0 {
		t.Error("nothing was counted as dropped")
	}
	_ = unix.Close(pipe[0]) // so that the writer comes to an end
	t.Cleanup(func() { _ = unix.Close(pipe[1]) })
}
