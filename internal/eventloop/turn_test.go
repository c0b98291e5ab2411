package eventloop_test

import (
	"net"
	"testing"
	"time"

	"reuseportd/internal/eventloop"
)

// inTurns counts calls by the turn that they were in.
type inTurns struct {
	loop    func() uint64
	turn    uint64
	n, most int
}

func (k *inTurns) call() {
	if now := k.loop(); now != k.turn {
		k.turn, k.n = now, 0
	}
	k.n++
	k.most = max(k.most, k.n)
}

// long is what one of many calls takes, and few how many of them are in a turn: a millisecond and
// a half's, and those that had begun within it. All of many would take many times that.
const (
	long = 200 * time.Microsecond
	few  = 16
	many = 100
)

// Connections to servers that are made all at once don't make a turn long.
func TestConnectsAreDivided(t *testing.T) {
	b := newBackend(t)
	k := &inTurns{}
	var servers *eventloop.Service
	s := serve(t, config{handler: func(l *eventloop.Loop) eventloop.Handler {
		k.loop = func() uint64 { return l.Count().Turns }
		servers = l.NewService(&calls{
			opened: func(*eventloop.Conn) {
				k.call()
				burn(long)
			},
			ended: func(c *eventloop.Conn) { c.Close() },
		}, 0)
		return &calls{}
	}})
	t.Cleanup(func() { s.do(s.Cut) })
	s.do(func() {
		for range many {
			if _, err := s.Dial(servers, &b.addr); err != nil {
				t.Error(err)
			}
		}
	})
	for range many {
		b.accept(t)
	}
	s.until("all are made", func() bool {
		n := 0
		for fd := range 1 << 12 {
			if c := s.Find(fd); c != nil && c.Outgoing() && !c.Connecting() {
				n++
			}
		}
		return n == many
	})
	s.do(func() {
		if k.most > few {
			t.Errorf("%d calls of %s in one turn", k.most, long)
		}
	})
}

// Nor do connections that come from another process at once.
func TestArrivalsAreDivided(t *testing.T) {
	k := &inTurns{}
	r := newRelay(t, config{handler: func(l *eventloop.Loop) eventloop.Handler {
		return &mover{calls: calls{opened: func(c *eventloop.Conn) { c.Hold() }}}
	}}, config{handler: func(l *eventloop.Loop) eventloop.Handler {
		k.loop = func() uint64 { return l.Count().Turns }
		return &mover{calls: calls{received: func(c *eventloop.Conn, in []byte) int {
			k.call()
			burn(long)
			return len(in)
		}}}
	}})
	for range many {
		if _, err := r.from.dial().Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	r.from.until("all have input that is not read", func() bool {
		n := 0
		for fd := range 1 << 12 {
			if c := r.from.Find(fd); c != nil && c.Readable() {
				n++
			}
		}
		return n == many
	})
	r.drain()
	gone := r.from.depart(1 << 20)
	r.from.give(r.to, gone)
	r.to.until("all are served", func() bool { return r.to.Count().BytesIn == many })
	r.to.do(func() {
		if k.most > few {
			t.Errorf("%d calls of %s in one turn", k.most, long)
		}
	})
}

// The descriptor of a connection that ends is closed before others have their turns, so that its time is
// counted, and not all of them behind the turn.
func TestClosesAreDivided(t *testing.T) {
	var s *server
	most := 0
	s = one(t, &calls{received: func(c *eventloop.Conn, in []byte) int {
		most = max(most, s.Closing())
		c.Close()
		return len(in)
	}})
	var clients []net.Conn
	for range many {
		clients = append(clients, s.dial())
	}
	s.until("all are there", func() bool { return s.Open() == many })
	var fds []int
	s.do(func() {
		for fd := range 1 << 12 {
			if s.Find(fd) != nil {
				fds = append(fds, fd)
			}
		}
	})
	release := s.hold(nil)
	for _, c := range clients {
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	await(fds...)
	release()
	s.until("all are closed", func() bool { return s.Open() == 0 })
	if most > 0 {
		t.Errorf("%d descriptors waited to be closed", most)
	}
}

// An answer of many parts, each of which is written by itself, is divided like many answers.
func TestPartsAreDivided(t *testing.T) {
	const parts = 1000
	k := &inTurns{}
	var s *server
	next := func(c *eventloop.Conn) {
		k.call()
		left := c.State.(int)
		if left == 0 {
			c.Finish(false)
			return
		}
		c.State = left - 1
		c.WriteStatic([]byte("p"))
	}
	s = one(t, &calls{
		received: func(c *eventloop.Conn, in []byte) int {
			c.State = parts
			next(c)
			return len(in)
		},
		flushed: next,
	})
	k.loop = func() uint64 { return s.Count().Turns }
	c := s.dial()
	_, _ = c.Write([]byte("x"))
	got := 0
	for b := make([]byte, parts); ; {
		n, err := c.Read(b)
		if got += n; err != nil {
			break
		}
	}
	if got != parts {
		t.Errorf("%d parts came", got)
	}
	s.do(func() {
		if k.most > parts/2 {
			t.Errorf("%d parts in one turn", k.most)
		}
	})
}

// A queue of connections moves each of them about once, whatever its length.
func TestQueueIsLinear(t *testing.T) {
	for _, n := range []int{1, 2, 3, 1000, 1024, 4096} {
		if moved := eventloop.QueueMoves(n, 10*n); moved > 4*10*n {
			t.Errorf("%d in the queue: %d were moved for %d pushes", n, moved, 10*n)
		}
	}
}
