package tcp

import (
	"reuseportd/internal/eventloop"
	"reuseportd/internal/service/proxyproto"
)

// Opened begins with a server at once: it may be the one that speaks first. Nothing
// is read from the client meanwhile, but for a header that is for us.
func (h *Handler) Opened(c *eventloop.Conn) {
	st := h.session()
	st.client = c
	c.State = st
	if h.conf.AcceptProxy {
		st.phase = inHeader
		c.SetDeadline(h.header)
		return
	}
	h.reach(st)
}

// Received reads the PROXY protocol header. All further input is passed.
func (h *Handler) Received(c *eventloop.Conn, in []byte) int {
	st := sessionOf(c)
	if st.phase != inHeader {
		return 0
	}
	head, n, err := proxyproto.Parse(in)
	if err != nil {
		h.badHeader(c, err.Error())
		return 0
	}
	if n > 0 {
		st.source, st.destination = head.Source, head.Destination
		h.reach(st)
	}
	return n
}

// badHeader closes a connection that didn't begin as it has to.
func (h *Handler) badHeader(c *eventloop.Conn, text string) {
	if a := c.Remote(); a.IsValid() {
		text = "from " + a.String() + ": " + text
	}
	h.tell("", "bad PROXY header", text)
	c.Close()
}

// Flushed is never called: nothing is sent from where it lies.
func (h *Handler) Flushed(*eventloop.Conn) {}

// Passed counts, and has it go on.
func (h *Handler) Passed(c *eventloop.Conn) {
	h.count(sessionOf(c))
	c.Pass(countEvery)
}

// Ended passes the client's end on.
func (h *Handler) Ended(c *eventloop.Conn) {
	st := sessionOf(c)
	if st.phase == inHeader { // as those do who only look whether we are there
		c.Close()
		return
	}
	h.ended(st, c)
}

// TimedOut looks after a client that sends no header, a pair on which nothing moves,
// or an end that takes the last bytes.
func (h *Handler) TimedOut(c *eventloop.Conn) {
	switch st := sessionOf(c); st.phase {
	case inHeader:
		h.badHeader(c, "it did not come in time")
	case passing, over:
		h.look(st, c)
	case cutting:
		h.cutLater(st, c)
	}
}

// Closed ends what the client was there for.
func (h *Handler) Closed(c *eventloop.Conn) {
	st := sessionOf(c)
	if st == nil {
		return
	}
	h.count(st)
	st.client = nil
	switch {
	case st.server == nil:
		h.release(st)
	case st.phase == connecting:
		st.phase = over
		st.server.Close()
	default:
		h.bereaved(st, c, st.server)
	}
}
