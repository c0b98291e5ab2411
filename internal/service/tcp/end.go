package tcp

import (
	"time"

	"reuseportd/internal/eventloop"
)

// ended passes the end of one direction on. With the second one the pair is done, when
// all is written.
func (h *Handler) ended(st *session, c *eventloop.Conn) {
	p := st.other(c)
	switch {
	case st.phase != passing || p == nil:
	case p.HasEnded():
		h.finish(st)
		p.Finish(false)
		p.Wake()
		c.Finish(false)
	default:
		p.ShutWrite()
	}
}

// bereaved sees to the end that is left when c was closed. If c had sent all that it
// would, or was handed over, then what there is of it is written and this one is closed
// too, after some time to do the same. If it had not, that is to be seen.
func (h *Handler) bereaved(st *session, c, left *eventloop.Conn) {
	if left == st.server {
		left.SetBusy(true) // nobody takes over this half
	}
	switch {
	case st.phase == passing && h.loop.Cause() != 0 && !c.HasEnded():
		c.ResetOnClose() // it was cut by us, unless by its peer
		h.cut(st, left)
	case st.phase == passing:
		h.finish(st)
		left.Finish(true)
		left.Wake()
	case st.phase == over:
		left.SetDeadline(h.last)
	}
}

// finish has the loop write what is left.
func (h *Handler) finish(st *session) {
	st.phase, st.quiet = over, 0
	if st.client != nil {
		st.client.SetDeadline(h.last)
	} else {
		st.server.SetDeadline(h.last)
	}
}

const (
	// patienceStep is how often an end that is to be cut is looked at, and patience
	// how many looks it may have without taking a byte: 2 s, as long as a connection
	// lingers otherwise.
	patienceStep = 20 * time.Millisecond
	patience     = 100
)

// cut ends a connection whose partner was lost, in a way that its peer can't take for an
// orderly end: with RST. That would destroy what is on its way to it, so it
// waits for that to arrive, as long as it moves.
func (h *Handler) cut(st *session, c *eventloop.Conn) {
	st.phase = cutting
	c.ResetOnClose()
	st.moved, st.quiet = uint64(c.Unsent()), 0
	if st.moved == 0 {
		c.Close()
		return
	}
	c.Hold()
	c.SetDeadline(h.patience)
	c.Wake()
}

// cutLater looks again at a connection that is to be cut.
func (h *Handler) cutLater(st *session, c *eventloop.Conn) {
	n := uint64(c.Unsent())
	if n != st.moved {
		st.moved, st.quiet = n, 0
	}
	if st.quiet++; n == 0 || st.quiet > patience {
		c.Close()
		return
	}
	c.SetDeadline(h.patience)
}
