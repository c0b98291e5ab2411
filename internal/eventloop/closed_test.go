package eventloop_test

import (
	"slices"
	"testing"

	"reuseportd/internal/eventloop"
)

// named is three connections of a server, whose handler knows them by the letter that they sent first.
func named(t *testing.T, h func(at map[byte]*eventloop.Conn) *calls) (*server, map[byte]*tcp) {
	t.Helper()
	at := make(map[byte]*eventloop.Conn)
	inner := h(at)
	received := inner.received
	inner.received = func(c *eventloop.Conn, in []byte) int {
		if c.State == nil {
			c.State = in[0]
			at[in[0]] = c
			c.Write(in[:1])
			return 1
		}
		return received(c, in)
	}
	s := one(t, inner)
	peers := make(map[byte]*tcp)
	for _, letter := range []byte("abc") {
		peers[letter] = s.dial()
		b := []byte{letter}
		_, _ = peers[letter].Write(b)
		if _, err := peers[letter].Read(b); err != nil {
			t.Fatal(err)
		}
	}
	return s, peers
}

// An end is reported when the call has returned in which it came, in the same turn, and so is one that the report
// leads to; whoever is left can use what has ended until then.
func TestClosedComesBehindTheCall(t *testing.T) {
	var order []string
	turns := make(map[uint64]bool)
	note := func(c *eventloop.Conn, what string) {
		order = append(order, what)
		turns[c.Loop().Count().Turns] = true
	}
	s, peers := named(t, func(at map[byte]*eventloop.Conn) *calls {
		return &calls{
			received: func(c *eventloop.Conn, in []byte) int {
				note(c, "received")
				at['b'].Close()
				for _, f := range []func(*eventloop.Conn){
					func(c *eventloop.Conn) { c.Write([]byte("nobody")) },
					func(c *eventloop.Conn) { c.Commit(append(c.Reserve(6), "nobody"...)) },
					func(c *eventloop.Conn) { c.SetTimeout(c.Loop().Class(1)) },
					func(c *eventloop.Conn) { c.SetDeadline(c.Loop().Class(1)) },
					(*eventloop.Conn).Push, (*eventloop.Conn).Wake, (*eventloop.Conn).Hold, (*eventloop.Conn).Release,
					(*eventloop.Conn).ShutWrite, (*eventloop.Conn).Abort,
					func(c *eventloop.Conn) { c.Finish(true) },
				} {
					f(at['b'])
				}
				note(c, "returned")
				return len(in)
			},
			closed: func(c *eventloop.Conn) {
				note(c, "closed "+string(c.State.(byte)))
				if c == at['b'] {
					at['c'].Close()
					note(c, "reported b")
				}
			},
		}
	})
	_, _ = peers['a'].Write([]byte("go"))
	for _, letter := range []byte("bc") {
		if n, err := peers[letter].Read(make([]byte, 1)); n != 0 || err == nil {
			t.Errorf("%c read %d bytes, error %v", letter, n, err)
		}
	}
	s.do(func() {
		want := []string{"received", "returned", "closed b", "reported b", "closed c"}
		if !slices.Equal(order, want) || len(turns) != 1 {
			t.Errorf("in %d turns: %q", len(turns), order)
		}
	})
}

// A panic of Closed costs nothing but itself: what ended with that connection is reported, and its partner goes on.
func TestClosedPanicsAmongMany(t *testing.T) {
	var order []byte
	s, peers := named(t, func(at map[byte]*eventloop.Conn) *calls {
		return &calls{
			received: func(c *eventloop.Conn, in []byte) int {
				c.Loop().Join(c, at['b'])
				at['b'].Close()
				at['c'].Close()
				c.Write(in)
				return len(in)
			},
			closed: func(c *eventloop.Conn) {
				order = append(order, c.State.(byte))
				if c == at['b'] {
					panic("Closed")
				}
			},
		}
	})
	_, _ = peers['a'].Write([]byte("go"))
	answer := make([]byte, 2)
	if _, err := peers['a'].Read(answer); err != nil || string(answer) != "go" {
		t.Errorf("a got %q, error %v", answer, err)
	}
	s.do(func() {
		if n := s.Count().Panics; string(order) != "bc" || n != 1 || s.Open() != 1 {
			t.Errorf("closed %q, %d panics, %d open", order, n, s.Open())
		}
	})
}
