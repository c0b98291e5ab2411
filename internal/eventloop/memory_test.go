package eventloop_test

import (
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"reuseportd/internal/eventloop"
)

// hoard is a handler that consumes nothing until a line ends, as one does with half a head.
type hoard struct {
	calls
	last string // what is said before a connection is shed
}

func (h *hoard) Received(c *eventloop.Conn, in []byte) int {
	i := strings.IndexByte(string(in), '\n')
	if i >= 0 {
		c.Write([]byte("ok\n"))
	}
	return i + 1
}

func (h *hoard) Held(*eventloop.Conn) int { return 0 }

func (h *hoard) Shed(c *eventloop.Conn) {
	c.Write([]byte(h.last))
	c.Finish(true)
}

// TestShedsTheLargestHalves: beyond the bound the largest half messages go, with an answer; small ones
// and idle connections stay and are served.
func TestShedsTheLargestHalves(t *testing.T) {
	mem := new(eventloop.Memory)
	mem.SetBound(1 << 20)
	s := serve(t, config{
		Options: eventloop.Options{Memory: mem},
		handler: func(*eventloop.Loop) eventloop.Handler { return &hoard{last: "503\n"} },
	})
	polite := s.dial()
	small := s.dial()
	send(t, small, "half")
	var large []net.Conn
	for range 100 {
		c := s.dial()
		large = append(large, c)
		send(t, c, strings.Repeat("x", 30<<10))
	}
	s.until("enough are shed", func() bool { return s.Count().ShedHeads >= 100-(1<<20)/(30<<10) })
	s.do(func() {
		if n := s.Lent(); n > 1<<20 {
			t.Errorf("%d bytes are lent of %d", n, 1<<20)
		}
		if n := s.Count().ShedIdle + s.Count().ShedBodies; n != 0 {
			t.Errorf("%d others were shed", n)
		}
	})
	send(t, polite, "all\n")
	send(t, small, " and the rest\n")
	expect(t, polite, "ok\n")
	expect(t, small, "ok\n")
	told := 0
	for _, c := range large {
		_, _ = c.Write([]byte("\n"))
		b, _ := io.ReadAll(io.LimitReader(c, 3))
		switch string(b) {
		case "503":
			told++
		case "ok\n":
		default:
			t.Fatalf("a client was told %q", b)
		}
		_ = c.Close()
	}
	if n := mem.Shed().Heads; told == 0 || uint64(told) != n {
		t.Errorf("%d were told, %d were shed", told, n)
	}
	s.until("all is back", func() bool { return s.Lent() == 0 })
	s.until("idle buffers are let go", func() bool { return s.Spared() == 0 && mem.Held() < 1<<10 })
}

// TestShedsBodiesThenIdle: output that nobody reads goes before idle connections, and those go when
// nothing else is left.
func TestShedsBodiesThenIdle(t *testing.T) {
	mem := new(eventloop.Memory)
	mem.SetBound(64 << 20)
	s := serve(t, config{
		Options: eventloop.Options{Memory: mem},
		handler: func(*eventloop.Loop) eventloop.Handler {
			return &calls{received: func(c *eventloop.Conn, in []byte) int {
				c.Write(make([]byte, 8<<20)) // more than sockets take
				return len(in)
			}}
		},
	})
	for range 6 {
		send(t, s.dial(), "x")
	}
	idle := s.dial()
	s.until("all wait for their readers", func() bool { return s.Open() == 7 && s.Lent() > 40<<20 })
	mem.SetBound(20 << 20)
	s.until("bodies are shed", func() bool { return s.Count().ShedBodies == 4 })
	s.do(func() {
		if s.Open() != 3 || s.Count().ShedIdle != 0 {
			t.Errorf("%d are open, %d idle ones were shed", s.Open(), s.Count().ShedIdle)
		}
	})
	mem.SetBound(1)
	s.until("all are shed", func() bool { return s.Open() == 0 })
	if n, err := idle.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("the idle client reads %d bytes, %v", n, err)
	}
	if got := mem.Shed(); got != (eventloop.Shed{Bodies: 6, Idle: 1}) {
		t.Errorf("shed: %+v", got)
	}
}

// TestShedsNoneThatWasAsked: a connection whose next request has come, and was not read yet, isn't idle.
func TestShedsNoneThatWasAsked(t *testing.T) {
	mem := new(eventloop.Memory)
	s := serve(t, config{
		Options: eventloop.Options{Memory: mem},
		handler: func(*eventloop.Loop) eventloop.Handler { return &hoard{} },
	})
	silent, asked := s.dial(), s.dial()
	for _, c := range []net.Conn{silent, asked} {
		send(t, c, "\n")
		expect(t, c, "ok\n")
	}
	s.until("both are idle", func() bool { return s.Open() == 2 && s.Queued() == 0 })
	release := s.hold(func() { mem.SetBound(1) })
	send(t, asked, "\n")
	release()
	expect(t, asked, "ok\n")
	s.until("both are idle again, and shed", func() bool { return s.Open() == 0 })
	for _, c := range []net.Conn{silent, asked} {
		if b, err := io.ReadAll(c); len(b) > 0 || err != nil {
			t.Errorf("an idle connection ends with %q, %v", b, err)
		}
	}
	if got := mem.Shed(); got != (eventloop.Shed{Idle: 2}) {
		t.Errorf("shed: %+v", got)
	}
}

// TestLoopsShareTheBound: a loop that holds little keeps it when another one holds too much.
func TestLoopsShareTheBound(t *testing.T) {
	mem := new(eventloop.Memory)
	make1 := func() *server {
		return serve(t, config{
			Options: eventloop.Options{Memory: mem}, manual: true,
			handler: func(*eventloop.Loop) eventloop.Handler { return &hoard{} },
		})
	}
	// Both are made before either holds anything.
	a, b := make1(), make1()
	for _, s := range []*server{a, b} {
		s.do(func() {
			ln, err := s.Listen(s.fd, s.service, eventloop.Sharing{})
			if s.ln = ln; err != nil {
				t.Error(err)
			}
		})
	}
	half := strings.Repeat("x", 32<<10)
	for range 60 {
		send(t, a.dial(), half)
	}
	a.until("60 halves are there", func() bool { return a.Lent() == 60*32<<10 })
	for range 10 {
		send(t, b.dial(), half)
	}
	b.until("10 halves are there", func() bool { return b.Lent() == 10*32<<10 })
	mem.SetBound(1 << 20)
	a.until("the large one has shed", func() bool { return mem.Held() <= 1<<20 })
	b.do(func() {
		if n := b.Count().ShedHeads; n != 0 {
			t.Errorf("the small one has shed %d", n)
		}
	})
}

// TestMemoryReturnsToZero: whatever connections do, all is counted and all comes back.
func TestMemoryReturnsToZero(t *testing.T) {
	mem := new(eventloop.Memory)
	mem.SetBound(2 << 20)
	s := serve(t, config{
		Options: eventloop.Options{Memory: mem},
		handler: func(*eventloop.Loop) eventloop.Handler {
			return &calls{received: func(c *eventloop.Conn, in []byte) int {
				switch in[0] % 4 {
				case 0:
					return len(in) / 2
				case 1:
					c.Write(make([]byte, 300<<10))
				case 2:
					c.Commit(append(c.Reserve(10), in...))
				default:
					return 0
				}
				return len(in)
			}}
		},
	})
	r := rand.New(rand.NewPCG(1, 7))
	var open []*net.TCPConn
	for range 1500 {
		switch n := r.IntN(10); {
		case n < 3 || len(open) == 0:
			open = append(open, s.dial())
		case n < 5:
			i := r.IntN(len(open))
			reset(open[i])
			open = append(open[:i], open[i+1:]...)
		default:
			b := make([]byte, 1+r.IntN(20<<10))
			b[0] = byte(r.Uint32())
			c := open[r.IntN(len(open))]
			_ = c.SetWriteDeadline(time.Now().Add(time.Millisecond)) // it may not be read
			_, _ = c.Write(b)
		}
		if r.IntN(50) == 0 {
			s.do(func() {
				if n := s.Lent(); n < 0 || n > 4<<20 {
					t.Errorf("%d bytes are lent", n)
				}
			})
		}
	}
	for _, c := range open {
		reset(c)
	}
	s.until("all are closed", func() bool { return s.Open() == 0 })
	s.do(func() {
		if n := s.Lent(); n != 0 {
			t.Errorf("%d bytes are lent and nobody is there", n)
		}
	})
	s.until("nothing is kept", func() bool { return s.Spared() == 0 && mem.Held() == 0 })
}

// TestIdleLoopTrims: a loop that nothing happens to gives back what it kept, and then sleeps.
func TestIdleLoopTrims(t *testing.T) {
	mem := new(eventloop.Memory)
	s := serve(t, config{
		Options: eventloop.Options{Memory: mem},
		handler: func(*eventloop.Loop) eventloop.Handler { return &calls{received: echoes} },
	})
	c := s.dial()
	send(t, c, "x")
	expect(t, c, "x")
	s.do(func() {}) // now that turn is over
	for deadline := time.Now().Add(limit); mem.Held() > int64(eventloop.ConnSize); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d bytes are held still", mem.Held()) // nothing wakes the loop but itself
		}
	}
	s.do(func() {
		if s.Patience() != -1 {
			t.Error("has a time to wake at still")
		}
	})
}

func send(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := c.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
}

func expect(t *testing.T, c net.Conn, text string) {
	t.Helper()
	b := make([]byte, len(text))
	if _, err := io.ReadFull(c, b); err != nil || string(b) != text {
		t.Fatalf("read %q, %v; want %q", b, err, text)
	}
}
