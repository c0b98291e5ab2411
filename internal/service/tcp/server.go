package tcp

import (
	"reuseportd/internal/eventloop"
)

// serverEnd handles the connections to servers.
type serverEnd Handler

func (e *serverEnd) handler() *Handler { return (*Handler)(e) }

// Opened is called when the server is connected.
func (e *serverEnd) Opened(c *eventloop.Conn) { e.handler().greet(sessionOf(c)) }

// Received reads the server's answer to the request for TLS. Later input is passed by the
// loop, or no longer read.
func (e *serverEnd) Received(c *eventloop.Conn, in []byte) int {
	st := sessionOf(c)
	switch {
	case st.phase != connecting || !st.asked:
		return 0
	case len(in) > 1 || in[0] != hasTLS: // bytes after that one aren't encrypted, and must not reach the client
		st.noTLS = true
		c.Close()
		return 0
	}
	e.handler().reached(st)
	return 1
}

// Flushed is never called: nothing is sent from where it lies.
func (e *serverEnd) Flushed(*eventloop.Conn) {}

// Passed counts what has passed, and lets the pair continue.
func (e *serverEnd) Passed(c *eventloop.Conn) { e.handler().Passed(c) }

// Ended passes the server's end on. If the server was asked for TLS it has not answered.
func (e *serverEnd) Ended(c *eventloop.Conn) {
	st := sessionOf(c)
	if st.phase == connecting {
		st.noTLS = true
		c.Close()
		return
	}
	e.handler().ended(st, c)
}

// TimedOut ends an attempt to connect that took too long, or a pair at its total timeout.
func (e *serverEnd) TimedOut(c *eventloop.Conn) {
	h := e.handler()
	switch st := sessionOf(c); st.phase {
	case connecting:
		st.late = true
		c.Close()
	case cutting:
		h.cutLater(st, c)
	default:
		if st.client != nil {
			h.expired(st)
		} else {
			h.look(st, c)
		}
	}
}

// Closed tries another server if this one was not reached; otherwise it handles the
// client's end.
func (e *serverEnd) Closed(c *eventloop.Conn) {
	h, st := e.handler(), sessionOf(c)
	if st == nil {
		return
	}
	h.count(st)
	st.server = nil
	switch {
	case st.phase == connecting:
		h.unreached(st)
		return
	case st.phase == passing && h.loop.Cause() != 0 && !c.HasEnded():
		h.lost(st)
	}
	h.done(st)
	if st.client == nil {
		h.freeSession(st)
		return
	}
	h.partnerClosed(st, c, st.client)
}
