package tcp

import (
	"reuseportd/internal/eventloop"
	"reuseportd/internal/service/proxyproto"
)

// Opened begins to connect to a server at once, since the server may speak first.
// Meanwhile nothing is read from the client, except a header that is for us.
func (h *Handler) Opened(c *eventloop.Conn) {
	st := h.session()
	st.client = c
	c.State = st
	if h.conf.AcceptProxy {
		st.phase = inHeader
		c.SetDeadline(h.header)
		return
	}
	h.choose(st, nil)
}

// Received reads what is needed to choose a server. The loop passes all further input.
func (h *Handler) Received(c *eventloop.Conn, in []byte) int {
	switch st := sessionOf(c); st.phase {
	case inHeader:
		return h.readHeader(c, st, in)
	case inHello, inHelloAsked:
		return h.readHello(c, st, in)
	}
	return 0
}

// readHeader reads the PROXY protocol header.
func (h *Handler) readHeader(c *eventloop.Conn, st *session, in []byte) int {
	head, n, err := proxyproto.Parse(in)
	if err != nil {
		h.badBegin(c, "bad PROXY header", err.Error())
		return 0
	}
	if n > 0 {
		st.source, st.destination = head.Source, head.Destination
		n += h.choose(st, in[n:])
	}
	return n
}

// badBegin closes a connection that began with something else than configured, and
// reports it.
func (h *Handler) badBegin(c *eventloop.Conn, reason, text string) {
	h.tellOfBegin(c, reason, text)
	c.Close()
}

// tellOfBegin reports a client that began with something else than configured.
func (h *Handler) tellOfBegin(c *eventloop.Conn, reason, text string) {
	if a := c.Remote(); a.IsValid() {
		text = "from " + a.String() + ": " + text
	}
	h.tell(sessionOf(c), "", reason, text)
}

// Flushed is never called: nothing is sent from where it lies.
func (h *Handler) Flushed(*eventloop.Conn) {}

// Passed counts what has passed, and lets the pair continue.
func (h *Handler) Passed(c *eventloop.Conn) {
	st := sessionOf(c)
	h.count(st)
	c.Pass(st.other(c), countEvery)
}

// Ended passes the client's end on.
func (h *Handler) Ended(c *eventloop.Conn) {
	st := sessionOf(c)
	switch st.phase {
	case inHeader, inHello, inHelloAsked: // as do clients that only check whether we are there
		c.Close()
		return
	}
	h.ended(st, c)
}

// TimedOut handles a client that doesn't begin, a pair on which nothing moves, and an end
// that is still reading its last bytes.
func (h *Handler) TimedOut(c *eventloop.Conn) {
	switch st := sessionOf(c); st.phase {
	case inHeader:
		h.badBegin(c, "bad PROXY header", "it did not come in time")
	case inHello, inHelloAsked:
		h.badBegin(c, badHello, "it did not come in time")
	case passing, over:
		h.look(st, c)
	case cutting:
		h.cutLater(st, c)
	}
}

// Closed ends what the session was doing for the client.
func (h *Handler) Closed(c *eventloop.Conn) {
	st := sessionOf(c)
	if st == nil {
		return
	}
	h.count(st)
	st.client = nil
	switch {
	case st.server == nil:
		h.freeSession(st)
	case st.phase == connecting:
		st.phase = over
		st.server.Close()
	default:
		h.partnerClosed(st, c, st.server)
	}
}
