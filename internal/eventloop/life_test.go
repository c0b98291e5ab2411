package eventloop_test

import (
	"io"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/eventloop"
)

// Posts of one goroutine keep their order and none is lost, also those that are
// posted by posts.
func TestPost(t *testing.T) {
	const posters, posts = 8, 2000
	s := one(t, &calls{})
	var got [posters][]int
	inner := 0
	var wg sync.WaitGroup
	for p := range posters {
		wg.Go(func() {
			for i := range posts {
				s.Post(func() {
					got[p] = append(got[p], i)
					s.Post(func() { inner++ })
				})
			}
		})
	}
	wg.Wait()
	s.until("all are called", func() bool { return inner == posters*posts })
	s.do(func() {
		for p := range got {
			for i, n := range got[p] {
				if i != n {
					t.Fatalf("poster %d: call %d is of post %d", p, i, n)
				}
			}
			if len(got[p]) != posts {
				t.Errorf("poster %d: %d calls", p, len(got[p]))
			}
		}
	})
}

// A loop that has stopped is told nothing more: its descriptor's number may be
// somebody else's by now.
func TestPostAfterStop(t *testing.T) {
	l, err := eventloop.New(eventloop.Options{})
	if err != nil {
		t.Fatal(err)
	}
	number := l.WakeFD()
	l.Post(l.Stop)
	if err := l.Run(); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Dup3(fd, number, unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	l.Post(func() { t.Error("called") })
	if n, err := unix.Read(number, make([]byte, 8)); err != unix.EAGAIN {
		t.Errorf("the next owner of the descriptor read %d bytes, error %v", n, err)
	}
	_ = unix.Close(number)
	_ = unix.Close(fd)
}

// Stop closes what is open, also the file that is being sent.
func TestStopWithOpenConnections(t *testing.T) {
	var conn *eventloop.Conn
	s := one(t, &calls{received: func(c *eventloop.Conn, in []byte) int {
		fd, err := unix.Open("/dev/zero", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Error(err)
		}
		c.SendFile(fd, 0, 1<<40)
		conn = c
		return len(in)
	}})
	c := s.dial()
	_, _ = c.Write([]byte("x"))
	s.until("output is blocked", func() bool { return conn != nil && conn.Blocked() })
}

func TestDrain(t *testing.T) {
	emptied := make(chan int, 10)
	var s *server
	s = serve(t, config{
		Options: eventloop.Options{Empty: func() { emptied <- s.Open() }},
		handler: func(l *eventloop.Loop) eventloop.Handler {
			return &calls{received: func(c *eventloop.Conn, in []byte) int {
				n := echoes(c, in)
				if c.Leaving() {
					c.Finish(false)
				}
				return n
			}}
		},
	})
	a, b, c := s.dial(), s.dial(), s.dial()
	for _, conn := range []io.ReadWriter{a, b, c} {
		p := []byte("p")
		_, _ = conn.Write(p)
		_, _ = io.ReadFull(conn, p)
	}
	a.Close()
	s.until("one is closed", func() bool { return s.Open() == 2 })
	s.do(func() { s.Drain() })
	if len(emptied) != 0 {
		t.Error("Empty was called with connections open")
	}
	ping(t, b)
	if _, err := b.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("b: %v", err)
	}
	s.do(func() { s.Cut() })
	<-emptied
	// A connection that comes after all makes it not empty again, and then empty.
	ping(t, s.dial())
	<-emptied
	n := s.count()
	if n.Finished != 2 || n.Cut != 1 || n.Closed != 4 || len(emptied) != 0 {
		t.Errorf("counted %+v", n)
	}
}

func TestDrainOfNothing(t *testing.T) {
	emptied := make(chan struct{}, 10)
	s := serve(t, config{
		Options: eventloop.Options{Empty: func() { emptied <- struct{}{} }},
		handler: func(*eventloop.Loop) eventloop.Handler { return &calls{} },
	})
	s.do(func() { s.Drain() })
	<-emptied
	for range 10 {
		s.do(func() {})
	}
	if len(emptied) != 0 {
		t.Error("Empty was called again")
	}
}

// The counters' memory may come from a worker that was killed.
func TestCountersAreTakenOver(t *testing.T) {
	n := &eventloop.Counters{Accepted: 7, Open: 5}
	s := serve(t, config{
		Options: eventloop.Options{Counters: n},
		handler: func(*eventloop.Loop) eventloop.Handler { return &calls{received: echoes} },
	})
	ping(t, s.dial())
	s.do(func() {
		if n.Open != 1 || n.Accepted != 8 {
			t.Errorf("counted %+v", *n)
		}
	})
}

// An idle loop sleeps.
func TestIdleLoopSleeps(t *testing.T) {
	fired := make(chan uint64, 1)
	s := serve(t, config{handler: func(l *eventloop.Loop) eventloop.Handler {
		return &calls{
			opened:   func(c *eventloop.Conn) { c.SetTimeout(l.Class(100 * time.Millisecond)) },
			timedOut: func(*eventloop.Conn) { fired <- l.Count().Turns },
		}
	}})
	s.dial()
	if n := <-fired; n > 20 {
		t.Errorf("turned %d times", n)
	}
}
