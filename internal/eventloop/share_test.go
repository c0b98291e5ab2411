package eventloop_test

import (
	"testing"
	"time"

	"reuseportd/internal/eventloop"
)

// burn is what a handler does for so long.
func burn(d time.Duration) {
	for began := time.Now(); time.Since(began) < d; {
	}
}

// A storm of connections that always have input, each call of whose handler takes its time, leaves
// turns short: another connection, posts and timers have theirs within a few calls.
func TestGreedyDoNotStarve(t *testing.T) {
	const greedy, work = 200, 100 * time.Microsecond
	inTurn, most, turn := 0, 0, uint64(0)
	var s *server
	s = one(t, &calls{received: func(c *eventloop.Conn, in []byte) int {
		if in[0] == 'p' {
			return echoes(c, in)
		}
		if now := s.Count().Turns; now != turn {
			turn, inTurn = now, 0
		}
		inTurn++
		most = max(most, inTurn)
		burn(work)
		c.Spend(1 << 30)
		return 0 // its input never ends
	}})
	polite := s.dial()
	ping(t, polite) // it is there before them
	for range greedy {
		c := s.dial()
		if _, err := c.Write([]byte("ggg")); err != nil {
			t.Fatal(err)
		}
	}
	s.until("all go on for ever", func() bool { return s.Open() == greedy+1 && s.Queued() == greedy })
	s.do(func() { most = 0 })
	for range 50 {
		if _, err := polite.Write([]byte("p")); err != nil {
			t.Fatal(err)
		}
		var b [1]byte
		if _, err := polite.Read(b[:]); err != nil {
			t.Fatal(err)
		}
	}
	s.do(func() {
		// A millisecond and a half, and the calls that began within it. All 200 are 20 ms.
		if most > 20 {
			t.Errorf("%d calls of %s in one turn", most, work)
		}
	})
}

// Nor do those who come first starve those who come behind: each turn has a part for them.
func TestPoliteDoNotStarve(t *testing.T) {
	calls1 := 0 // of the greedy one
	s := one(t, &calls{received: func(c *eventloop.Conn, in []byte) int {
		if in[0] == 'g' {
			calls1++
			c.Spend(1 << 30)
			return 0
		}
		burn(50 * time.Microsecond)
		c.Spend(128 << 10)
		c.Wake() // as if it had new input at once
		return 0
	}})
	g := s.dial()
	_, _ = g.Write([]byte("g"))
	for range 100 {
		_, _ = s.dial().Write([]byte("s"))
	}
	s.until("all are there", func() bool { return s.Open() == 101 && calls1 > 0 })
	var before int
	var turns uint64
	s.do(func() { before, turns = calls1, s.Count().Turns })
	s.until("some turns have passed", func() bool { return s.Count().Turns >= turns+20 })
	s.do(func() {
		if n := calls1 - before; n < 10 {
			t.Errorf("it had its turn %d times in 20", n)
		}
	})
}

// Many connections that wait to be accepted are accepted many at a time, though one was
// enough before.
func TestAcceptBesideMuch(t *testing.T) {
	var s *server
	at := make(map[uint64]int)
	s = one(t, &calls{
		opened: func(*eventloop.Conn) { at[s.Count().Turns]++ },
		received: func(c *eventloop.Conn, in []byte) int {
			c.Spend(1 << 30)
			return 0
		},
	})
	for range 40 {
		_, _ = s.dial().Write([]byte("g"))
	}
	s.until("they go on for ever", func() bool { return s.Queued() == 40 })
	release := s.hold(func() { clear(at) })
	for range 60 {
		s.dial()
	}
	release()
	s.until("all are accepted", func() bool { return s.Open() == 100 })
	s.do(func() {
		if len(at) > 20 {
			t.Errorf("60 connections were accepted in %d turns", len(at))
		}
	})
}

// Of a peer whose bytes are each much work little is read at once, though its handler consumes them all.
func TestDearBytesAreReadInSmallPieces(t *testing.T) {
	const size = 1 << 20
	var reads []int
	s := one(t, &calls{received: func(c *eventloop.Conn, in []byte) int {
		reads = append(reads, len(in))
		c.Spend(256 * len(in))
		return len(in)
	}})
	c := s.dial()
	s.until("it is there", func() bool { return s.Open() == 1 })
	if _, err := c.Write(pattern(1, size)); err != nil {
		t.Fatal(err)
	}
	s.until("all is read", func() bool { return s.Count().BytesIn == size })
	s.do(func() {
		last := 0
		for _, n := range reads {
			if n > 4<<10 && last > 4<<10 {
				t.Fatalf("a large read follows a large one: %v", reads)
			}
			last = n
		}
	})
}
