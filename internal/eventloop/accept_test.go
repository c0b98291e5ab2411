package eventloop_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/eventloop"
)

// ping has one byte echoed.
func ping(t testing.TB, c net.Conn) {
	t.Helper()
	b := []byte("p")
	if _, err := c.Write(b); err != nil {
		t.Error(err)
	}
	if _, err := io.ReadFull(c, b); err != nil {
		t.Error(err)
	}
}

func TestAcceptBatchGrows(t *testing.T) {
	perTurn := make(map[uint64]int)
	var s *server
	s = one(t, &calls{opened: func(*eventloop.Conn) { perTurn[s.Count().Turns]++ }})
	release := s.hold(nil)
	for range 400 {
		s.dial()
	}
	var first uint64
	s.Post(func() { first = s.Count().Turns })
	release()
	s.until("all are accepted", func() bool { return s.Count().Accepted == 400 })
	s.do(func() {
		var got []int
		for at := uint64(0); at <= s.Count().Turns; at++ {
			if n := perTurn[at]; n > 0 {
				got = append(got, n)
			}
		}
		if want := "[1 1 1 1 2 2 2 2 4 4 4 4 8 8 8 8 16 16 16 16 32 32 32 32 64 64 20]"; fmt.Sprint(got) != want {
			t.Errorf("accepted %v in the turns from %d, want %s", got, first, want)
		}
	})
}

// At the limit the rest wait in the queue and are served when one closes.
func TestConnectionLimit(t *testing.T) {
	s := serve(t, config{
		Options: eventloop.Options{MaxConnections: 3},
		handler: func(*eventloop.Loop) eventloop.Handler { return &calls{received: echoes} },
	})
	var clients []net.Conn
	for range 8 {
		clients = append(clients, s.dial())
	}
	for i, c := range clients {
		ping(t, c)
		s.do(func() {
			if want := min(3, len(clients)-i); s.Open() != want {
				// The next may not be accepted yet, but there are never more.
				if s.Open() > 3 {
					t.Errorf("%d are open", s.Open())
				}
			}
		})
		c.Close()
	}
	s.until("all are closed", func() bool { return s.Open() == 0 })
	if n := s.count(); n.Accepted != 8 || n.AcceptPaused < 1 || n.AcceptPaused > 8 {
		t.Errorf("counted %+v", n)
	}
}

// A full loop doesn't turn: it waits for the queue no more than for nothing.
func TestFullLoopSleeps(t *testing.T) {
	var s *server
	var turns []uint64
	s = serve(t, config{
		Options: eventloop.Options{MaxConnections: 1},
		handler: func(l *eventloop.Loop) eventloop.Handler {
			return &calls{
				opened: func(c *eventloop.Conn) { c.SetTimeout(l.Class(20 * time.Millisecond)) },
				timedOut: func(c *eventloop.Conn) {
					turns = append(turns, l.Count().Turns)
					c.SetTimeout(l.Class(20 * time.Millisecond))
					if len(turns) == 5 {
						c.Close()
					}
				},
			}
		},
	})
	a, b := s.dial(), s.dial()
	if _, err := a.Read(make([]byte, 1)); err != io.EOF {
		t.Error(err)
	}
	s.do(func() {
		if n := turns[4] - turns[0]; n > 20 {
			t.Errorf("turned %d times in 100 ms", n)
		}
	})
	_ = b
}

var exclusive = eventloop.Sharing{Exclusive: true}

// A full loop takes no connection's wake-up from the others that watch the same
// socket. A test that only counts would pass: the next connection wakes a loop
// that takes both. So each is sent only when the one before was served.
func TestExclusiveFullLoop(t *testing.T) {
	fd := listenTCP(t)
	second, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	handler := func(*eventloop.Loop) eventloop.Handler { return &calls{received: echoes} }
	full := serve(t, config{listen: fd, sharing: exclusive, handler: handler, Options: eventloop.Options{MaxConnections: 1}})
	other := serve(t, config{listen: second, sharing: exclusive, handler: handler, manual: true})
	ping(t, full.dial())
	other.do(func() {
		if other.ln, err = other.Listen(second, other.service, exclusive); err != nil {
			t.Error(err)
		}
	})
	for range 20 {
		ping(t, full.dial())
	}
	if a, b := full.count(), other.count(); a.Accepted != 1 || b.Accepted != 20 {
		t.Errorf("accepted %d and %d", a.Accepted, b.Accepted)
	}
}

// Loops that have time for all connections have an even share of them.
func TestExclusiveIsShared(t *testing.T) {
	fd := listenShared(t)
	var all []*server
	for range 4 {
		own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, serve(t, config{
			listen: own, sharing: exclusive,
			handler: func(*eventloop.Loop) eventloop.Handler { return &calls{received: echoes} },
		}))
	}
	for range 1000 { // one at a time
		c, err := net.Dial("tcp", all[0].addr)
		if err != nil {
			t.Fatal(err)
		}
		ping(t, c)
		c.Close()
	}
	for i, s := range all {
		if n := s.count().Accepted; n < 50 {
			t.Errorf("loop %d accepted %d of 1000", i, n)
		}
	}
}

func TestExclusiveShared(t *testing.T) {
	fd := listenTCP(t)
	second, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	handler := func(*eventloop.Loop) eventloop.Handler { return &calls{received: echoes} }
	a := serve(t, config{listen: fd, sharing: exclusive, handler: handler})
	b := serve(t, config{listen: second, sharing: exclusive, handler: handler})
	done := make(chan struct{})
	for range 4 {
		go func() {
			for range 50 {
				c, err := net.Dial("tcp", a.addr)
				if err != nil {
					t.Error(err)
					continue
				}
				ping(t, c)
				c.Close()
			}
			done <- struct{}{}
		}()
	}
	for range 4 {
		<-done
	}
	if x, y := a.count(), b.count(); x.Accepted+y.Accepted != 200 {
		t.Errorf("accepted %d and %d of 200", x.Accepted, y.Accepted)
	}
}

// watches returns the descriptors that an epoll instance watches.
func watches(t *testing.T, epoll int) (fds []string) {
	t.Helper()
	info, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", epoll))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(info)) {
		if f := strings.Fields(line); f[0] == "tfd:" {
			fds = append(fds, f[1])
		}
	}
	return fds
}

// A socket that others still hold sends no events here after Unlisten, watched
// or in a pause.
func TestUnlistenSharedSocket(t *testing.T) {
	for _, limit := range []int{0, 1} {
		t.Run(fmt.Sprintf("limit=%d", limit), func(t *testing.T) {
			s := serve(t, config{
				Options: eventloop.Options{MaxConnections: limit},
				handler: func(*eventloop.Loop) eventloop.Handler { return &calls{received: echoes} },
			})
			dup, err := unix.Dup(s.fd)
			if err != nil {
				t.Fatal(err)
			}
			c := s.dial()
			ping(t, c)
			s.do(func() {
				s.Unlisten(s.ln)
				s.Unlisten(s.ln) // twice does no harm
			})
			c.Close()
			s.until("it is closed", func() bool { return s.Open() == 0 })
			s.do(func() {
				if fds := watches(t, s.Epoll()); len(fds) != 1 {
					t.Errorf("watches %v", fds)
				}
			})
			_ = unix.Close(dup)
		})
	}
}

// A handler may stop its own listener from within a batch, whose connections are
// served.
func TestUnlistenInBatch(t *testing.T) {
	var s *server
	opened := 0
	s = one(t, &calls{opened: func(*eventloop.Conn) {
		if opened++; opened == 5 { // the first of the fifth batch, which has two
			s.Unlisten(s.ln)
		}
	}})
	release := s.hold(nil)
	for range 12 {
		s.dial()
	}
	release()
	s.until("it has stopped", func() bool { return opened >= 6 })
	if n := s.count(); n.Accepted != 6 || n.Open != 6 || n.AcceptErrors != 0 {
		t.Errorf("counted %+v", n)
	}
}

// A listening socket that somebody who shares it has shut down reports its error
// for ever; the loop looks once.
func TestListenerShutDown(t *testing.T) {
	_, word := sharedWord(t)
	for name, sharing := range map[string]eventloop.Sharing{"alone": {}, "exclusive": exclusive, "mutex": {Mutex: word}} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, config{sharing: sharing, handler: func(*eventloop.Loop) eventloop.Handler { return &calls{} }})
			s.do(func() {})
			if err := unix.Shutdown(s.fd, unix.SHUT_RDWR); err != nil {
				t.Fatal(err)
			}
			s.until("the error is counted", func() bool { return s.Count().AcceptErrors > 0 })
			s.until("some turns later", func() bool { return s.Count().Turns > 20 })
			if n := s.count(); n.AcceptErrors != 1 {
				t.Errorf("counted %+v", n)
			}
		})
	}
}

func TestListenMakesNonBlocking(t *testing.T) {
	fd := listenTCP(t)
	_ = unix.SetNonblock(fd, false)
	s := serve(t, config{listen: fd, handler: func(*eventloop.Loop) eventloop.Handler { return &calls{received: echoes} }})
	ping(t, s.dial())
	s.do(func() {})
}

func TestListenRefusesWhatIsNoSocket(t *testing.T) {
	s := one(t, &calls{})
	s.do(func() {
		if _, err := s.Listen(1<<30, s.service, eventloop.Sharing{}); err == nil {
			t.Error("a descriptor that isn't open was taken")
		}
	})
}

// Without descriptors the loop rests, without spinning and without losing a
// connection, and goes on when there are some. It runs in a process of its own,
// whose limit it lowers.
func TestNoDescriptors(t *testing.T) {
	if os.Getenv("EVENTLOOP_NOFD") == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestNoDescriptors$", "-test.count=1")
		cmd.Env = append(os.Environ(), "EVENTLOOP_NOFD=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	const step = 260 * time.Millisecond // some two pauses
	var begin, end eventloop.Counters
	told := make(chan struct{})
	s := serve(t, config{handler: func(l *eventloop.Loop) eventloop.Handler {
		return &calls{
			received: func(c *eventloop.Conn, in []byte) int {
				if in[0] == 'm' {
					begin = *l.Count()
					c.SetTimeout(l.Class(step))
				}
				return echoes(c, in)
			},
			timedOut: func(*eventloop.Conn) {
				end = *l.Count()
				close(told)
			},
		}
	}})
	measured := s.dial()
	ping(t, measured)

	// The clients' sockets come first, then there is room for two more, and for one
	// that the loop has kept.
	var socks []int
	for range 6 {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		socks = append(socks, fd)
	}
	var spare [2]int
	for i := range spare {
		spare[i], _ = unix.Dup(socks[0])
	}
	var old unix.Rlimit
	_ = unix.Getrlimit(unix.RLIMIT_NOFILE, &old)
	low := old
	low.Cur = uint64(spare[1]) + 1
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	for _, fd := range spare {
		_ = unix.Close(fd)
	}
	sa, _ := unix.Getsockname(s.fd)
	for _, fd := range socks {
		if err := unix.Connect(fd, sa); err != nil {
			t.Fatal(err)
		}
	}
	s.until("it has no descriptors", func() bool { return s.Count().AcceptNoFD > 0 })
	if _, err := measured.Write([]byte("m")); err != nil {
		t.Fatal(err)
	}
	<-told
	if end.Turns-begin.Turns > 20 || end.AcceptNoFD-begin.AcceptNoFD < 2 || end.Accepted != 4 {
		t.Errorf("from %+v\nto %+v", begin, end)
	}
	_ = unix.Close(socks[0]) // whose descriptor and that of the server are free now
	s.until("the next are accepted", func() bool { return s.Count().Accepted >= 5 })
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	s.until("all are accepted", func() bool { return s.Count().Accepted == 7 })
	for _, fd := range socks[1:] {
		_ = unix.Close(fd)
	}
}
