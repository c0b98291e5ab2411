// Package conformance holds the HTTP service against RFC 9110 and RFC 9112 from
// outside: bytes in through a real socket and a real loop, bytes out.
package conformance

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"reuseportd/internal/config"
	"reuseportd/internal/eventloop"
	service "reuseportd/internal/service/http"
	"reuseportd/internal/upstream"
)

// TestMain looks for goroutines and descriptors that the tests left behind.
func TestMain(m *testing.M) {
	before := descriptors()
	status := m.Run()
	if status == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			status = 1
		}
		if after := descriptors(); after > before {
			fmt.Fprintf(os.Stderr, "%d descriptors before the tests, %d after\n", before, after)
			status = 1
		}
	}
	os.Exit(status)
}

// descriptors counts the open ones, leaving out what the runtime's poller keeps.
func descriptors() (n int) {
	entries, _ := os.ReadDir("/proc/self/fd")
	for _, e := range entries {
		to, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err == nil && !strings.Contains(to, "eventpoll") && !strings.Contains(to, "eventfd") {
			n++
		}
	}
	return n
}

// server is a loop that serves a site on one listening socket.
type server struct {
	*eventloop.Loop
	network, addr string
	svc           *eventloop.Service
	pools         map[string]*service.Pool
	board         func() upstream.ServerState // of the first server
}

// serve starts a server; o.AccessLog is used if the configuration has a log.
func serve(t testing.TB, network string, conf *config.HTTP, o service.Options, ups ...upstreams) *server {
	t.Helper()
	site, err := service.NewSite(conf, o)
	if err != nil {
		t.Fatal(err)
	}
	l, err := eventloop.New(eventloop.Options{
		MaxMessage: max(64<<10, conf.MaxRequestLine+conf.MaxHeader+16<<10),
		Panicked:   func(v any, stack []byte) { t.Errorf("panic: %v\n%s", v, stack) },
	})
	if err != nil {
		t.Fatal(err)
	}
	s := &server{Loop: l, network: network}
	fd := s.bind(t)
	for _, u := range ups {
		s.pools = u.pools(t, l)
	}
	s.svc = service.NewService(l, site, s.pools)
	done := make(chan error, 1)
	if _, err := l.Listen(fd, s.svc, eventloop.Sharing{}); err != nil {
		t.Fatal(err)
	}
	go func() { done <- l.Run() }()
	t.Cleanup(func() {
		l.Post(func() { l.Cut(); l.Stop() })
		if err := <-done; err != nil {
			t.Error(err)
		}
		site.Close()
	})
	return s
}

// bind makes the listening socket, a Unix one or one on loopback.
func (s *server) bind(t testing.TB) int {
	t.Helper()
	family, sa := unix.AF_INET, unix.Sockaddr(&unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	if s.network == "unix" {
		s.addr = filepath.Join(t.TempDir(), "s")
		family, sa = unix.AF_UNIX, &unix.SockaddrUnix{Name: s.addr}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(unix.Bind(fd, sa), unix.Listen(fd, 128)); err != nil {
		t.Fatal(err)
	}
	if s.network != "unix" {
		bound, err := unix.Getsockname(fd)
		if err != nil {
			t.Fatal(err)
		}
		s.addr = fmt.Sprintf("127.0.0.1:%d", bound.(*unix.SockaddrInet4).Port)
	}
	return fd
}

func (s *server) dial(t testing.TB) net.Conn {
	t.Helper()
	c, err := net.Dial(s.network, s.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return c
}

// onLoop runs f on the loop's goroutine.
func (s *server) onLoop(f func()) {
	done := make(chan struct{})
	s.Post(func() { f(); close(done) })
	<-done
}

// count reads the loop's counters.
func (s *server) count() (k eventloop.Counters) {
	s.onLoop(func() { k = *s.Count() })
	return k
}

// waitFor waits until the loop's counters are as ok says.
func (s *server) waitFor(t testing.TB, what string, ok func(eventloop.Counters) bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(s.count()); {
		if time.Now().After(end) {
			t.Fatalf("%s did not happen; counters: %+v", what, s.count())
		}
		time.Sleep(50 * time.Microsecond)
	}
}

// feed sends the parts one after another, each only when the server has read
// the one before, then reads everything until the server closes.
func (s *server) feed(t testing.TB, parts ...string) string {
	t.Helper()
	c := s.dial(t)
	defer c.Close()
	s.send(t, c, parts...)
	got, err := io.ReadAll(c)
	if err != nil {
		t.Fatalf("after %q the answer ends in: %v", parts, err)
	}
	return string(got)
}

func (s *server) send(t testing.TB, c net.Conn, parts ...string) {
	t.Helper()
	before := s.count()
	var sent uint64
	for _, p := range parts {
		n, err := io.WriteString(c, p)
		if sent += uint64(n); err != nil {
			return // it was refused early; what came back is judged
		}
		s.waitFor(t, "reading what was sent", func(k eventloop.Counters) bool {
			return k.BytesIn >= before.BytesIn+sent || k.Closed > before.Closed
		})
	}
}

// answer is one response as a client understands it.
type answer struct {
	status int
	header http.Header
	body   string
	close  bool
}

// parseAll reads the answers to requests with these methods; it fails when bytes
// are left over.
func parseAll(t testing.TB, raw string, methods ...string) []answer {
	t.Helper()
	r := bufio.NewReader(strings.NewReader(raw))
	var all []answer
	for i := 0; ; i++ {
		if _, err := r.Peek(1); err == io.EOF {
			return all
		}
		method := "GET"
		if i < len(methods) {
			method = methods[i]
		}
		resp, err := http.ReadResponse(r, &http.Request{Method: method})
		if err != nil {
			t.Fatalf("answer %d of %q: %v", i, raw, err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatalf("body of answer %d of %q: %v", i, raw, err)
		}
		if resp.StatusCode == 100 {
			i--
		}
		all = append(all, answer{resp.StatusCode, resp.Header, string(body), resp.Close})
	}
}

var dates = regexp.MustCompile(`(?m)^Date: .*\r\n`)

// undated takes the Date fields out, so that answers can be compared.
func undated(raw string) string { return dates.ReplaceAllString(raw, "") }

// statuses lists the status codes, as in "200 404".
func statuses(all []answer) string {
	var b bytes.Buffer
	for i, a := range all {
		if i > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprint(&b, a.status)
	}
	return b.String()
}

// base is a configuration with every kind of fixed answer and a root.
func base(root string) *config.HTTP {
	conf := &config.HTTP{
		HeaderTimeout: 20 * time.Second, BodyTimeout: 20 * time.Second,
		KeepaliveTimeout: 20 * time.Second, WriteTimeout: 20 * time.Second,
		MaxRequestLine: 512, MaxHeader: 2048, MaxBody: 4096,
		Routes: []config.Route{
			{Path: "/", Respond: &config.Respond{Status: 200, Body: []byte("hello\n")}},
			{Path: "/big", Respond: &config.Respond{Status: 200, Body: bytes.Repeat([]byte("0123456789"), 10<<10)}},
			{Path: "/none", Respond: &config.Respond{Status: 204}},
			{Path: "/a/b", Respond: &config.Respond{Status: 200, Body: []byte("a/b")}},
			{Path: "/a/", Respond: &config.Respond{Status: 200, Body: []byte("a/")}},
			{Host: "other.example", Path: "/", Respond: &config.Respond{Status: 200, Body: []byte("other")}},
			{Host: "[::1]", Path: "/", Respond: &config.Respond{Status: 200, Body: []byte("six")}},
			{Host: "bare.example", Path: "/only", Respond: &config.Respond{Status: 200, Body: []byte("bare")}},
		},
	}
	if root != "" {
		conf.Routes = append(conf.Routes, config.Route{Path: "/files/", Files: &config.Files{Root: root, Index: "index.html"}})
	}
	return conf
}
