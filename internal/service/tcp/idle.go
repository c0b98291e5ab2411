package tcp

import (
	"time"

	"reuseportd/internal/eventloop"
)

const (
	// looks is the number of parts in which the idle timeout is waited for. Passing bytes
	// don't arm a timer: it is cheaper to look from time to time whether any have passed. A
	// pair is closed up to one part late, or two with a keep-alive, and never early.
	looks = 4
	// lastTime replaces the idle timeout, if there is none, when everything has been read
	// and a peer doesn't take it.
	lastTime = time.Minute
)

// idleStep returns the time between two looks.
func idleStep(idle time.Duration) time.Duration {
	if idle <= 0 {
		return 0
	}
	return max((idle+looks-1)/looks, time.Millisecond)
}

// movement returns a number that grows with each byte that moves, in either direction: a
// byte that has been read adds two, and subtracts one until its receiver's kernel has
// acknowledged it.
func (st *session) movement() (n uint64) {
	for _, c := range [...]*eventloop.Conn{st.client, st.server} {
		if c != nil {
			n += 2*c.Passed() - uint64(c.Unsent())
		}
	}
	return n
}

// look closes a pair, or what is left of it, if nothing has moved for its idle timeout;
// c is the end whose timer runs for both.
func (h *Handler) look(st *session, c *eventloop.Conn) {
	h.count(st)
	if st.phase == passing && h.keepalive != nil && !st.kept {
		st.kept = true
		st.server.KeepAlive(*h.keepalive) // the client's came from the listening socket
		if h.first != h.idle {
			st.moved = st.movement()
			c.SetDeadline(h.idle)
			return
		}
	}
	if m := st.movement(); m != st.moved {
		st.moved, st.quiet = m, 0
	} else if st.quiet++; st.quiet >= looks {
		h.loop.Count().Quiet++
		h.close(st, (*eventloop.Conn).Close)
		return
	}
	if st.phase == passing {
		c.SetDeadline(h.idle)
	} else {
		c.SetDeadline(h.last)
	}
}

// expired cuts a pair at its total timeout.
func (h *Handler) expired(st *session) {
	h.tell(st, st.name(), "total timeout", "")
	h.loop.Count().Cut++
	h.close(st, (*eventloop.Conn).Abort)
}

// close ends a pair. A peer that hasn't received everything is reset, so that it can't
// mistake the end for an orderly one.
func (h *Handler) close(st *session, how func(*eventloop.Conn)) {
	h.count(st)
	st.phase = over
	for _, c := range [...]*eventloop.Conn{st.server, st.client} {
		if c == nil {
			continue
		}
		if c.Unsent() > 0 {
			c.ResetOnClose()
		}
		how(c)
	}
}
