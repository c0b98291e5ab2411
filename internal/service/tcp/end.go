package tcp

import (
	"time"

	"reuseportd/internal/eventloop"
)

// ended passes the end of one direction on. After the second one the pair is closed when
// everything is written.
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

// partnerClosed handles the end that is left when c has been closed. If c had sent
// everything, or was handed over, then what it has sent is written and the end that is
// left is closed too, after some time to finish. Otherwise its peer must see that
// something is missing.
func (h *Handler) partnerClosed(st *session, c, left *eventloop.Conn) {
	if left == st.server {
		left.SetBusy(true) // nobody takes over this half
	}
	switch {
	case st.phase == passing && h.loop.Cause() != 0 && !c.HasEnded():
		c.ResetOnClose() // we have cut it, unless its peer did
		h.cut(st, left)
	case st.phase == passing:
		h.finish(st)
		left.Finish(true)
		left.Wake()
	case st.phase == over:
		left.SetDeadline(h.last)
	}
}

// finish makes the loop write what is left.
func (h *Handler) finish(st *session) {
	st.phase, st.quiet = over, 0
	if st.client != nil {
		st.client.SetDeadline(h.last)
	} else {
		st.server.SetDeadline(h.last)
	}
}

const (
	// patienceStep is how often an end that is to be cut is checked. patience is after how
	// many checks without progress it is cut: 2 s, as long as a connection lingers
	// elsewhere.
	patienceStep = 20 * time.Millisecond
	patience     = 100
)

// cut ends a connection whose partner was lost, in a way that its peer can't take for an
// orderly end: with RST. A RST destroys what is still on its way to the peer, so cut
// waits for that to arrive, as long as there is progress.
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

// cutLater checks again a connection that is to be cut.
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
