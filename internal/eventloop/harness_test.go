package eventloop_test

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"reuseportd/internal/eventloop"
)

func TestMain(m *testing.M) {
	if state := os.Getenv(mutexProcess); state != "" {
		runMutexProcess(state)
		return
	}
	// What the runtime's poller opens for itself is no leak of a test.
	if ln, err := net.Listen("tcp", "127.0.0.1:0"); err == nil {
		ln.Close()
	}
	goleak.VerifyTestMain(m)
}

// limit is how long a test waits for an event that never comes.
const limit = 30 * time.Second

// calls is a handler made of functions. By default it swallows what it gets and
// finishes when the peer does.
type calls struct {
	opened, flushed, ended, timedOut, closed func(*eventloop.Conn)
	received                                 func(*eventloop.Conn, []byte) int
}

func call(f func(*eventloop.Conn), c *eventloop.Conn) {
	if f != nil {
		f(c)
	}
}

func (h *calls) Opened(c *eventloop.Conn)   { call(h.opened, c) }
func (h *calls) Flushed(c *eventloop.Conn)  { call(h.flushed, c) }
func (h *calls) TimedOut(c *eventloop.Conn) { call(h.timedOut, c) }
func (h *calls) Closed(c *eventloop.Conn)   { call(h.closed, c) }

func (h *calls) Received(c *eventloop.Conn, in []byte) int {
	if h.received == nil {
		return len(in)
	}
	return h.received(c, in)
}

func (h *calls) Ended(c *eventloop.Conn) {
	if h.ended == nil {
		c.Finish(false)
		return
	}
	h.ended(c)
}

// echoes makes a handler send back what it gets.
func echoes(c *eventloop.Conn, in []byte) int {
	c.Write(in)
	return len(in)
}

// server is a loop that runs, with one listener.
type server struct {
	*eventloop.Loop
	t       testing.TB
	addr    string
	fd      int // the listening socket, until Unlisten
	ln      *eventloop.Listener
	service *eventloop.Service
	done    chan struct{}
	err     error
}

// config is what serve makes a server from; only handler must be there.
type config struct {
	eventloop.Options
	handler      func(*eventloop.Loop) eventloop.Handler
	writeTimeout time.Duration
	listen       int // a listening socket; 0 is a fresh one
	sharing      eventloop.Sharing
	manual       bool // listen later
}

// serve runs a loop until the test ends and then checks that it gave back every
// descriptor.
func serve(t testing.TB, o config) *server {
	t.Helper()
	before := descriptors(t)
	fd, own := o.listen, 0
	if fd == 0 {
		fd = listenTCP(t)
	} else {
		own = 1
	}
	l, err := eventloop.New(o.Options)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{Loop: l, t: t, fd: fd, addr: address(t, fd), done: make(chan struct{})}
	s.service = l.NewService(o.handler(l), o.writeTimeout)
	if !o.manual {
		l.Post(func() {
			if s.ln, err = l.Listen(fd, s.service, o.sharing); err != nil {
				t.Errorf("listen: %v", err)
			}
		})
	}
	go func() {
		defer close(s.done)
		s.err = l.Run()
	}()
	t.Cleanup(func() {
		s.do(func() {})
		l.Post(l.Stop)
		<-s.done
		if s.err != nil {
			t.Error(s.err)
		}
		if o.manual && s.ln == nil {
			_ = unix.Close(fd)
		}
		for deadline := time.Now().Add(limit); ; time.Sleep(time.Millisecond) {
			after := descriptors(t)
			if after <= before-own {
				return
			}
			if time.Now().After(deadline) {
				t.Errorf("%d descriptors before, %d after", before, after)
				return
			}
		}
	})
	return s
}

// one is a server of one handler for all connections.
func one(t testing.TB, h eventloop.Handler) *server {
	t.Helper()
	return serve(t, config{handler: func(*eventloop.Loop) eventloop.Handler { return h }})
}

// do calls f on the loop's goroutine, where all invariants must hold. What f ended is reported when it returns.
func (s *server) do(f func()) {
	s.t.Helper()
	called := make(chan error, 1)
	s.Post(func() {
		err := s.Check()
		f()
		s.Post(func() { called <- err })
	})
	select {
	case err := <-called:
		if err != nil {
			s.t.Errorf("invariant: %v", err)
		}
	case <-s.done:
		s.t.Fatalf("the loop has ended: %v", s.err)
	case <-time.After(limit):
		s.t.Fatal("the loop hangs")
	}
}

// until asks once a turn until cond holds.
func (s *server) until(what string, cond func() bool) {
	s.t.Helper()
	called := make(chan error, 1)
	deadline := time.Now().Add(limit)
	var ask func()
	ask = func() {
		err := s.Check()
		switch {
		case err != nil || cond():
			called <- err
		case time.Now().After(deadline):
			called <- os.ErrDeadlineExceeded
		default:
			s.Post(ask)
		}
	}
	s.Post(ask)
	select {
	case err := <-called:
		if err != nil {
			s.t.Fatalf("waiting until %s: %v", what, err)
		}
	case <-s.done:
		s.t.Fatalf("waiting until %s: the loop has ended: %v", what, s.err)
	}
}

// hold stops the loop until the function that it returns is called, so that
// events gather and arrive in one batch. f is called just before it goes on.
func (s *server) hold(f func()) (release func()) {
	held, gate, gone := make(chan struct{}), make(chan struct{}), make(chan struct{})
	s.Post(func() {
		close(held)
		<-gate
		if f != nil {
			f()
		}
		close(gone)
	})
	<-held
	return func() {
		close(gate)
		<-gone
	}
}

// count returns a copy of the counters.
func (s *server) count() (n eventloop.Counters) {
	s.t.Helper()
	s.do(func() { n = *s.Count() })
	return n
}

// tcp is a client's connection.
type tcp = net.TCPConn

// await waits until descriptors have input; on the loop's goroutine, in hold.
func await(fds ...int) {
	for _, fd := range fds {
		for {
			p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
			if n, err := unix.Poll(p, -1); n == 1 && err == nil {
				break
			}
		}
	}
}

func listenTCP(t testing.TB) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 1024); err != nil {
		t.Fatal(err)
	}
	return fd
}

func listenUnix(t testing.TB) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: filepath.Join(t.TempDir(), "s")}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 128); err != nil {
		t.Fatal(err)
	}
	return fd
}

func address(t testing.TB, fd int) string {
	t.Helper()
	sa, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return net.JoinHostPort("127.0.0.1", strconv.Itoa(sa.Port))
	case *unix.SockaddrUnix:
		return sa.Name
	}
	t.Fatalf("what is %T?", sa)
	return ""
}

// dial connects to the server; the connection is closed with the test.
func (s *server) dial() *net.TCPConn {
	s.t.Helper()
	// What the test has done so far is seen by the handlers, and the race detector
	// knows: it can't follow a connection.
	s.Post(func() {})
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(limit))
	return c.(*net.TCPConn)
}

// reset closes a client's connection with RST.
func reset(c *net.TCPConn) {
	_ = c.SetLinger(0)
	_ = c.Close()
}

// descriptors counts the open descriptors of this process.
func descriptors(t testing.TB) int {
	t.Helper()
	d, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(d)
}
