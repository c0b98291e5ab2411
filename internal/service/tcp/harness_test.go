package tcp_test

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"reuseportd/internal/config"
	"reuseportd/internal/eventloop"
	"reuseportd/internal/service/failure"
	"reuseportd/internal/service/tcp"
)

// TestMain looks for goroutines and descriptors that the tests left behind.
func TestMain(m *testing.M) {
	before := descriptors()
	status := m.Run()
	if status == 0 {
		if err := goleak.Find(); err != nil {
			os.Stderr.WriteString(err.Error() + "\n")
			status = 1
		}
		if after := descriptors(); after > before {
			os.Stderr.WriteString("descriptors were left open\n")
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

// server is a service behind the proxy: what is done with each connection, one
// goroutine each.
type server struct {
	net.Listener
	all sync.WaitGroup
}

func listen(t testing.TB, network string, serve func(net.Conn)) *server {
	t.Helper()
	addr := "127.0.0.1:0"
	if network == "unix" {
		addr = filepath.Join(t.TempDir(), "server")
	}
	ln, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{Listener: ln}
	s.all.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			s.all.Go(func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(30 * time.Second))
				serve(c)
			})
		}
	})
	t.Cleanup(func() { ln.Close(); s.all.Wait() })
	return s
}

// echo sends back what it receives, its end too.
func echo(c net.Conn) { _, _ = io.Copy(onlyWriter{c}, c); closeWrite(c) }

// onlyWriter keeps io.Copy from splicing.
type onlyWriter struct{ io.Writer }

func closeWrite(c net.Conn) { _ = c.(interface{ CloseWrite() error }).CloseWrite() }

// address is a server as the configuration has it.
func (s *server) address() config.Server {
	return config.Server{Network: s.Addr().Network(), Address: s.Addr().String(), Weight: 1}
}

// refusing is the address of a port where nobody listens.
func refusing(t testing.TB) config.Server {
	s := listen(t, "tcp", func(net.Conn) {})
	s.Close()
	return s.address()
}

// proxy is a loop that serves one listener.
type proxy struct {
	*eventloop.Loop
	svc           *eventloop.Service
	network, addr string
	pool          *pool

	mu     sync.Mutex
	failed []failure.Failure
}

// start starts a proxy to servers; change, if not nil, changes its configuration.
func start(t testing.TB, network string, change func(*config.TCP, *config.Upstream), servers ...config.Server) *proxy {
	t.Helper()
	conf := &config.TCP{Upstream: "app", NoDelay: true}
	up := upstreamOf("app", servers...)
	if change != nil {
		change(conf, &up)
	}
	return startOf(t, network, conf, up)
}

func upstreamOf(name string, servers ...config.Server) config.Upstream {
	return config.Upstream{
		Name: name, Balance: config.BalanceRoundRobin, Servers: servers,
		ConnectTimeout: 20 * time.Second, Retries: 2,
	}
}

// startOf starts a proxy to the servers of several upstreams.
func startOf(t testing.TB, network string, conf *config.TCP, ups ...config.Upstream) *proxy {
	t.Helper()
	p := &proxy{network: network, pool: newPool(t, ups)}
	l, err := eventloop.New(eventloop.Options{
		Panicked: func(v any, stack []byte) { t.Errorf("panic: %v\n%s", v, stack) },
	})
	if err != nil {
		t.Fatal(err)
	}
	p.Loop = l
	p.svc = tcp.NewService(l, tcp.Options{
		Listener: "db", Conf: conf, Choosers: p.pool.choosers,
		Failed: func(f failure.Failure) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.failed = append(p.failed, f)
		},
	})
	if _, err := l.Listen(p.bind(t), p.svc, eventloop.Sharing{}); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- l.Run() }()
	t.Cleanup(func() {
		l.Post(func() { l.Cut(); l.Stop() })
		if err := <-done; err != nil {
			t.Error(err)
		}
		if n := p.pool.inUse(); n != 0 {
			t.Errorf("%d connections are still counted in use", n)
		}
	})
	return p
}

// bind makes the listening socket, a Unix one or one on loopback.
func (p *proxy) bind(t testing.TB) int {
	t.Helper()
	family, sa := unix.AF_INET, unix.Sockaddr(&unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	if p.network == "unix" {
		p.addr = filepath.Join(t.TempDir(), "proxy")
		family, sa = unix.AF_UNIX, &unix.SockaddrUnix{Name: p.addr}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(unix.Bind(fd, sa), unix.Listen(fd, 128)); err != nil {
		t.Fatal(err)
	}
	if p.network == "tcp" {
		bound, err := unix.Getsockname(fd)
		if err != nil {
			t.Fatal(err)
		}
		p.addr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(bound.(*unix.SockaddrInet4).Port)).String()
	}
	return fd
}

func (p *proxy) dial(t testing.TB) net.Conn {
	t.Helper()
	c, err := net.Dial(p.network, p.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	return c
}

// on runs f on the loop's goroutine.
func (p *proxy) on(f func()) {
	done := make(chan struct{})
	p.Post(func() { f(); close(done) })
	<-done
}

// waitFor waits until ok says so of the loop's counters, on its goroutine.
func (p *proxy) waitFor(t testing.TB, what string, ok func(eventloop.Counters) bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; {
		var k eventloop.Counters
		var yes bool
		p.on(func() { k = *p.Count(); yes = ok(k) })
		if yes {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s did not happen; counters: %+v", what, k)
		}
		time.Sleep(100 * time.Microsecond)
	}
}

// empty waits until no connection is left.
func (p *proxy) empty(t testing.TB) {
	t.Helper()
	p.waitFor(t, "closing all", func(eventloop.Counters) bool { return p.Open() == 0 })
}

// told returns the failures, as "server reason".
func (p *proxy) told() (out []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range p.failed {
		out = append(out, strings.TrimSpace(f.Server+" "+f.Reason))
	}
	return out
}

// reset makes the connection end with RST.
func reset(c net.Conn) {
	_ = c.(*net.TCPConn).SetLinger(0)
	c.Close()
}
