package eventloop_test

import (
	"io"
	"sync"
	"testing"

	"reuseportd/internal/eventloop"
)

// Two connections whose events come in one batch, and whichever is served first
// closes the other: the second event is stale, and the descriptor isn't used
// again before the batch has ended.
func TestStaleEventInBatch(t *testing.T) {
	var conns []*eventloop.Conn
	served := 0
	var turn uint64 // of the events
	closed := -1
	var s *server
	s = one(t, &calls{
		opened: func(c *eventloop.Conn) {
			conns = append(conns, c)
			if len(conns) == 3 && s.Count().Turns == turn && c.FD() == closed {
				t.Errorf("descriptor %d was used again in the batch that closed it", closed)
			}
		},
		received: func(c *eventloop.Conn, in []byte) int {
			served++
			turn = s.Count().Turns
			for _, other := range conns[:2] {
				if other != c {
					closed = other.FD()
					other.Close()
					if s.Open() != len(conns)-1 {
						t.Errorf("%d are open", s.Open())
					}
				}
			}
			return echoes(c, in)
		},
	})
	a, b := s.dial(), s.dial()
	s.until("both are open", func() bool { return len(conns) == 2 })
	fds := []int{conns[0].FD(), conns[1].FD()}
	release := s.hold(func() { await(append(fds, s.fd)...) })
	_, _ = a.Write([]byte("x"))
	_, _ = b.Write([]byte("x"))
	s.dial()
	release()
	s.until("the third is open", func() bool { return len(conns) == 3 })
	s.do(func() {
		if served != 1 {
			t.Errorf("Received was called %d times, once for a closed connection", served)
		}
	})
}

// One descriptor's uses are told apart.
func TestGenerationOfDescriptor(t *testing.T) {
	type use struct {
		fd  int
		gen uint32
	}
	var uses []use
	s := one(t, &calls{opened: func(c *eventloop.Conn) { uses = append(uses, use{c.FD(), c.Gen()}) }})
	for i := range 3 {
		c := s.dial()
		s.until("it is open", func() bool { return len(uses) == i+1 })
		c.Close()
		s.until("it is closed", func() bool { return s.Open() == 0 })
	}
	s.do(func() {
		for i := 1; i < len(uses); i++ {
			if uses[i].fd != uses[0].fd || uses[i].gen == uses[i-1].gen {
				t.Errorf("uses %+v", uses)
			}
		}
	})
}

// A connection that floods moves no more than its budget in a turn, and another
// is served in between.
func TestFloodDoesNotStarve(t *testing.T) {
	type turn struct {
		c *eventloop.Conn
		n uint64
	}
	moved := make(map[turn]int)
	var s *server
	s = one(t, &calls{received: func(c *eventloop.Conn, in []byte) int {
		moved[turn{c, s.Count().Turns}] += len(in)
		if len(in) == 1 {
			return echoes(c, in)
		}
		return len(in)
	}})
	flood, ping := s.dial(), s.dial()
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		p := make([]byte, 1<<20)
		for {
			if _, err := flood.Write(p); err != nil {
				return
			}
		}
	}()
	var b [1]byte
	for range 200 {
		_, _ = ping.Write(b[:])
		if _, err := io.ReadFull(ping, b[:]); err != nil {
			t.Fatal(err)
		}
	}
	flood.Close()
	<-stopped
	s.do(func() {
		for at, n := range moved {
			if n > eventloop.TurnBudget+64<<10 {
				t.Errorf("%d bytes in turn %d", n, at.n)
			}
		}
	})
}

// The same for output: a peer that reads as fast as it can be written to.
func TestDownloadDoesNotStarve(t *testing.T) {
	big := make([]byte, 64<<20)
	s := one(t, &calls{received: func(c *eventloop.Conn, in []byte) int {
		if in[0] == 'b' {
			c.WriteStatic(big)
			return len(in)
		}
		return echoes(c, in)
	}})
	load, other := s.dial(), s.dial()
	asking := make(chan struct{})
	go func() {
		<-asking
		_, _ = load.Write([]byte("b"))
		_, _ = io.CopyN(io.Discard, load, int64(len(big)))
	}()
	pinged := make(chan struct{})
	go func() {
		defer close(pinged)
		for range 100 {
			ping(t, other)
		}
	}()
	var last, most uint64
	begin := sync.OnceFunc(func() { close(asking) })
	s.until("all is written", func() bool { // asks once a turn
		begin()
		out := s.Count().BytesOut
		most, last = max(most, out-last), out
		return out == uint64(len(big))+100
	})
	<-pinged
	// Two drives may lie between two questions, and the budget can't stop a call
	// that has begun.
	if most > 4*eventloop.SendMax {
		t.Errorf("wrote %d bytes in one turn", most)
	}
}
