package conformance

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/config"
	"reuseportd/internal/eventloop"
	"reuseportd/internal/service/failure"
	service "reuseportd/internal/service/http"
	"reuseportd/internal/upstream"
)

// upstreams are those that a server under test passes requests on to.
type upstreams struct {
	confs []config.Upstream
	tell  func(failure.Failure)
	board **upstream.Board
}

func (u upstreams) pools(t testing.TB, l *eventloop.Loop) map[string]*service.Pool {
	t.Helper()
	board, err := upstream.NewBoard()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // behind the loop's end
		for i := range u.confs {
			for _, s := range board.Snapshot(u.confs[i].Name) {
				if s.InUse != 0 {
					t.Errorf("server %s counts %d in use", s.Address, s.InUse)
				}
			}
		}
		_ = board.Close()
	})
	if u.board != nil {
		*u.board = board
	}
	set, err := upstream.New(u.confs, board, nil)
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]*service.Pool)
	for i := range u.confs {
		c, err := set.Chooser(u.confs[i].Name, 0)
		if err != nil {
			t.Fatal(err)
		}
		all[u.confs[i].Name] = service.NewPool(l, c, u.tell)
	}
	return all
}

// told collects failures.
type told struct {
	mu  sync.Mutex
	all []failure.Failure
}

func (t *told) tell(f failure.Failure) {
	t.mu.Lock()
	t.all = append(t.all, f)
	t.mu.Unlock()
}

// app is an upstream of some addresses.
func app(addrs ...string) config.Upstream {
	u := config.Upstream{
		Name: "app", Balance: config.BalanceRoundRobin, ConnectTimeout: 10 * time.Second, IdleConnections: 8,
		IdleTimeout: 20 * time.Second, Retries: 2,
	}
	for _, a := range addrs {
		s := config.Server{Network: "tcp", Address: a, Weight: 1}
		if strings.HasPrefix(a, "/") {
			s.Network = "unix"
		}
		u.Servers = append(u.Servers, s)
	}
	return u
}

// proxying is base with a route that passes everything on.
func proxying() *config.HTTP {
	conf := base("")
	conf.MaxHeader, conf.MaxBody = 16<<10, 1<<30
	conf.Routes = []config.Route{{Path: "/", Proxy: &config.Proxy{
		Upstream: "app", Host: config.HostPreserve, ResponseTimeout: 10 * time.Second,
	}}}
	return conf
}

// front serves conf in front of an upstream.
func front(t testing.TB, network string, conf *config.HTTP, u config.Upstream) (*server, *told) {
	var failures told
	var board *upstream.Board
	s := serve(t, network, conf, service.Options{AccessLog: -1, Listener: "web"},
		upstreams{[]config.Upstream{u}, failures.tell, &board})
	s.board = func() upstream.ServerState { return board.Snapshot(u.Name)[0] }
	return s, &failures
}

// backend is a server that does what a test says.
type backend struct {
	net.Listener
	addr string
	wg   sync.WaitGroup
	mu   sync.Mutex
	open map[net.Conn]bool
	n    int // connections accepted
}

// listen serves connections one after another or at once, each by serve, which is told
// its number.
func listen(t testing.TB, serve func(c net.Conn, n int)) *backend {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &backend{Listener: l, addr: l.Addr().String(), open: make(map[net.Conn]bool)}
	b.wg.Add(1)
	go func() {
		defer b.wg.Done()
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			b.mu.Lock()
			b.open[c] = true
			n := b.n
			b.n++
			b.mu.Unlock()
			b.wg.Add(1)
			go func() {
				defer b.wg.Done()
				defer c.Close()
				serve(c, n)
			}()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		b.mu.Lock()
		for c := range b.open {
			c.Close()
		}
		b.mu.Unlock()
		b.wg.Wait()
	})
	return b
}

// accepted is how many connections there have been.
func (b *backend) accepted() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.n
}

// script answers each request on a connection with the next of some raw responses, and
// closes behind the last. It reads each request with net/http.
func script(responses ...string) func(net.Conn, int) {
	return func(c net.Conn, _ int) {
		r := bufio.NewReader(c)
		for _, raw := range responses {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, req.Body)
			_, _ = io.WriteString(c, raw)
		}
	}
}

// again answers every request with the same raw response.
func again(raw string) func(net.Conn, int) {
	return func(c net.Conn, _ int) {
		r := bufio.NewReader(c)
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, req.Body)
			if _, err := io.WriteString(c, raw); err != nil {
				return
			}
		}
	}
}

// echoBack answers with the request's body and, in fields, its line and Host.
func echoBack(c net.Conn, _ int) {
	r := bufio.NewReader(c)
	for {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return
		}
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nX-Line: %s %s\r\nX-Host: %s\r\n\r\n", len(body), req.Method, req.RequestURI, req.Host)
		if req.Method != "HEAD" {
			_, _ = c.Write(body)
		}
	}
}

func newReader(raw string) *bufio.Reader { return bufio.NewReader(strings.NewReader(raw)) }

func peeks(r *bufio.Reader) bool {
	_, err := r.Peek(1)
	return err == nil
}

const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

// rawUntil reads until an end, without allocating.
func rawUntil(t testing.TB, fd int, buf []byte, end string) {
	for have := 0; ; {
		k, err := unix.Read(fd, buf[have:])
		if err != nil || k == 0 {
			t.Fatal(k, err)
		}
		if have += k; bytes.HasSuffix(buf[:have], unsafeBytes(end)) {
			return
		}
	}
}

// rawListener is a listening socket that Go's runtime knows nothing of.
type rawListener struct {
	fd   int
	addr string
}

func listenRaw(t testing.TB) rawListener {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(fd, 0)); err != nil { // a queue of one
		t.Fatal(err)
	}
	bound, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return rawListener{fd, fmt.Sprintf("127.0.0.1:%d", bound.(*unix.SockaddrInet4).Port)}
}

// fullQueue is the address of a listening socket whose queue is full.
func fullQueue(t testing.TB) string {
	t.Helper()
	addr := listenRaw(t).addr
	for range 4 {
		c, err := net.DialTimeout("tcp", addr, 50*time.Millisecond)
		if err != nil {
			return addr
		}
		t.Cleanup(func() { c.Close() })
	}
	return addr
}
