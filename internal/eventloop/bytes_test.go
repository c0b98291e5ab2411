package eventloop_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/eventloop"
	"reuseportd/internal/service/echo"
)

func echoServer(t testing.TB, o config) *server {
	t.Helper()
	o.handler = func(l *eventloop.Loop) eventloop.Handler { return echo.New(l, 0) }
	return serve(t, o)
}

// pattern is n bytes that are the same nowhere near.
func pattern(seed uint64, n int) []byte {
	var key [32]byte
	key[0], key[1] = byte(seed), byte(seed>>8)
	p := make([]byte, n)
	_, _ = rand.NewChaCha8(key).Read(p)
	return p
}

// exchange sends p in random pieces, shuts its side and reads all that comes.
func exchange(c interface {
	io.ReadWriter
	CloseWrite() error
}, seed uint64, p []byte,
) ([]byte, error) {
	sent := make(chan error, 1)
	go func() {
		r := rand.New(rand.NewPCG(seed, 1))
		for rest := p; len(rest) > 0; {
			n := min(len(rest), 1+r.IntN(1<<r.IntN(18)))
			if _, err := c.Write(rest[:n]); err != nil {
				sent <- err
				return
			}
			rest = rest[n:]
		}
		sent <- c.CloseWrite()
	}()
	got, err := io.ReadAll(c)
	if err := <-sent; err != nil {
		return got, err
	}
	return got, err
}

func TestEchoManyConnections(t *testing.T) {
	s := echoServer(t, config{})
	var wg sync.WaitGroup
	for i := range uint64(100) {
		c := s.dial()
		wg.Go(func() {
			p := pattern(i, int(i*i*7))
			if got, err := exchange(c, i, p); err != nil || !bytes.Equal(got, p) {
				t.Errorf("connection %d: %d bytes back of %d, error %v", i, len(got), len(p), err)
			}
		})
	}
	done := make(chan struct{})
	go func() {
		wg.Wait()
		close(done)
	}()
	s.until("all are done", func() bool { // checks the invariants each turn
		select {
		case <-done:
			return s.Open() == 0
		default:
			return false
		}
	})
	if n := s.count(); n.Accepted != 100 || n.Closed != 100 || n.BytesIn != n.BytesOut || n.Cut+n.Panics != 0 {
		t.Errorf("counted %+v", n)
	}
}

func TestEchoUnixSocket(t *testing.T) {
	s := echoServer(t, config{listen: listenUnix(t)})
	for i := range uint64(8) {
		c, err := net.Dial("unix", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		p := pattern(i, 1<<20)
		if got, err := exchange(c.(*net.UnixConn), i, p); err != nil || !bytes.Equal(got, p) {
			t.Errorf("%d bytes back of %d, error %v", len(got), len(p), err)
		}
		c.Close()
	}
}

// A peer that doesn't read costs no more memory than one read.
func TestPeerThatDoesNotRead(t *testing.T) {
	var conn *eventloop.Conn
	s := one(t, &calls{opened: func(c *eventloop.Conn) { conn = c }, received: echoes})
	c := s.dial()
	p := pattern(1, 32<<20)
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		_, _ = c.Write(p)
		_ = c.CloseWrite()
	}()
	s.until("output is blocked", func() bool { return conn != nil && conn.Blocked() })
	s.do(func() {
		if n := s.Count(); n.BytesIn-n.BytesOut > 64<<10 {
			t.Errorf("holds %d bytes", n.BytesIn-n.BytesOut)
		}
	})
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, p) {
		t.Errorf("%d bytes back of %d, error %v", len(got), len(p), err)
	}
	<-sent
}

func TestResetWhileBlocked(t *testing.T) {
	var conn *eventloop.Conn
	s := one(t, &calls{
		opened:   func(c *eventloop.Conn) { conn = c },
		received: echoes,
		closed:   func(*eventloop.Conn) { conn = nil },
	})
	c := s.dial()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		_, _ = c.Write(make([]byte, 32<<20))
	}()
	s.until("output is blocked", func() bool { return conn != nil && conn.Blocked() })
	reset(c)
	<-sent
	s.until("it is closed", func() bool { return conn == nil })
}

func TestWriteTimeoutCuts(t *testing.T) {
	s := serve(t, config{writeTimeout: 20 * time.Millisecond, handler: func(l *eventloop.Loop) eventloop.Handler {
		return &calls{
			opened: func(c *eventloop.Conn) { c.SetTimeout(l.Class(time.Millisecond)) },
			timedOut: func(c *eventloop.Conn) {
				if c.Blocked() {
					t.Error("TimedOut was called while the write timeout runs")
				}
				c.SetTimeout(l.Class(time.Millisecond))
			},
			received: func(c *eventloop.Conn, in []byte) int {
				c.WriteStatic(make([]byte, 64<<20))
				return len(in)
			},
		}
	}})
	c := s.dial()
	_, _ = c.Write([]byte("x"))
	s.until("it is cut", func() bool { return s.Count().Cut == 1 })
	if n := s.count(); n.Open != 0 || n.Closed != 1 {
		t.Errorf("counted %+v", n)
	}
}

// A timeout that has fired stays off, even when output was blocked since.
func TestTimeoutFiresOnce(t *testing.T) {
	var conn *eventloop.Conn
	fired := 0
	s := serve(t, config{handler: func(l *eventloop.Loop) eventloop.Handler {
		return &calls{
			opened: func(c *eventloop.Conn) {
				conn = c
				c.SetTimeout(l.Class(time.Millisecond))
			},
			timedOut: func(c *eventloop.Conn) {
				if fired++; fired == 1 {
					c.WriteStatic(make([]byte, 64<<20))
				}
			},
			flushed: func(c *eventloop.Conn) { c.State = "flushed" },
		}
	}})
	c := s.dial()
	s.until("output is blocked", func() bool { return conn != nil && conn.Blocked() })
	go func() { _, _ = io.CopyN(io.Discard, c, 64<<20) }()
	s.until("all is written", func() bool { return conn.State == "flushed" })
	s.do(func() {
		if conn.Timeout() != 0 {
			t.Error("the timeout that has fired was armed again")
		}
	})
	if fired != 1 {
		t.Errorf("fired %d times", fired)
	}
}

// The handler's timeout runs again when output is no longer blocked.
func TestTimeoutAfterBlocked(t *testing.T) {
	var conn *eventloop.Conn
	blocked := false
	s := serve(t, config{handler: func(l *eventloop.Loop) eventloop.Handler {
		return &calls{
			received: func(c *eventloop.Conn, in []byte) int {
				conn = c
				c.WriteStatic(make([]byte, 32<<20))
				c.SetTimeout(l.Class(time.Hour))
				return len(in)
			},
			flushed: func(c *eventloop.Conn) {
				blocked = c.Blocked()
				c.SetTimeout(l.Class(time.Millisecond))
			},
			timedOut: func(c *eventloop.Conn) { c.Finish(false) },
		}
	}})
	c := s.dial()
	_, _ = c.Write([]byte("x"))
	s.until("output is blocked", func() bool { return conn != nil && conn.Blocked() })
	if n, err := io.Copy(io.Discard, c); err != nil || n != 32<<20 {
		t.Errorf("read %d bytes, error %v", n, err)
	}
	s.do(func() {
		if !blocked {
			t.Error("output was not blocked to the last")
		}
	})
}

// The peer's FIN may come in one event with its last bytes, before or after the
// connection is watched.
func TestEndWithLastBytes(t *testing.T) {
	for _, watched := range []bool{false, true} {
		t.Run(fmt.Sprintf("watched=%v", watched), func(t *testing.T) {
			var order []string
			s := one(t, &calls{
				received: func(c *eventloop.Conn, in []byte) int {
					order = append(order, string(in))
					return echoes(c, in)
				},
				ended: func(c *eventloop.Conn) {
					order = append(order, "ended")
					c.Write([]byte("answer"))
					c.Finish(false)
				},
			})
			var c *net.TCPConn
			if watched {
				c = s.dial()
				s.until("it is open", func() bool { return s.Open() == 1 })
			}
			release := s.hold(nil)
			if !watched {
				c = s.dial()
			}
			_, _ = c.Write([]byte("last"))
			_ = c.CloseWrite()
			release()
			if got, err := io.ReadAll(c); err != nil || string(got) != "lastanswer" {
				t.Errorf("got %q, error %v", got, err)
			}
			s.do(func() {
				if fmt.Sprint(order) != "[last ended]" {
					t.Errorf("called %v", order)
				}
			})
		})
	}
}

// A peer that is gone after it has shut its writing side takes no answer: a
// handler that waits for one to be ready must hear of it.
func TestResetAfterHalfClose(t *testing.T) {
	ended, closed := false, false
	s := one(t, &calls{
		ended:  func(*eventloop.Conn) { ended = true }, // and the answer takes long
		closed: func(*eventloop.Conn) { closed = true },
	})
	c := s.dial()
	_ = c.CloseWrite()
	s.until("it has ended", func() bool { return ended })
	reset(c)
	s.until("it is closed", func() bool { return closed })
}

// A half-closed peer that only doesn't speak stays.
func TestHalfCloseStaysOpen(t *testing.T) {
	var conn *eventloop.Conn
	s := one(t, &calls{ended: func(c *eventloop.Conn) { conn = c }})
	c := s.dial()
	_ = c.CloseWrite()
	s.until("it has ended", func() bool { return conn != nil })
	s.do(func() {
		conn.Write([]byte("late"))
		conn.Finish(false)
		conn.Wake()
	})
	if got, err := io.ReadAll(c); err != nil || string(got) != "late" {
		t.Errorf("got %q, error %v", got, err)
	}
}

// Urgent data makes a read come short although more input waits behind it.
func TestUrgentData(t *testing.T) {
	s := echoServer(t, config{})
	c := s.dial()
	got := make([]byte, 4)
	_, _ = c.Write([]byte("ping"))
	if _, err := io.ReadFull(c, got); err != nil {
		t.Fatal(err)
	}
	release := s.hold(nil)
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	_, _ = c.Write([]byte("ab"))
	_ = raw.Control(func(fd uintptr) { err = unix.Sendto(int(fd), []byte("!"), unix.MSG_OOB, nil) })
	if err != nil {
		t.Fatal(err)
	}
	_, _ = c.Write([]byte("cd"))
	release()
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "abcd" {
		t.Errorf("got %q, error %v", got, err)
	}
}
