package tcp

import (
	"reuseportd/internal/eventloop"
)

// serverEnd handles the connections to servers.
type serverEnd Handler

func (e *serverEnd) handler() *Handler { return (*Handler)(e) }

// Opened begins with the server: it is connected to.
func (e *serverEnd) Opened(c *eventloop.Conn) { e.handler().greet(sessionOf(c)) }

// Received reads whether the server has TLS. All later input is passed, or not read any more.
func (e *serverEnd) Received(c *eventloop.Conn, in []byte) int {
	st := sessionOf(c)
	switch {
	case st.phase != connecting || !st.asked:
		return 0
	case len(in) > 1 || in[0] != hasTLS: // more than that byte isn't encrypted, and a client must not believe it
		st.noTLS = true
		c.Close()
		return 0
	}
	e.handler().reached(st)
	return 1
}

// Flushed is never called: nothing is sent from where it lies.
func (e *serverEnd) Flushed(*eventloop.Conn) {}

// Passed counts, and has it go on.
func (e *serverEnd) Passed(c *eventloop.Conn) { e.handler().Passed(c) }

// Ended passes the server's end on. One that was asked for TLS has not answered.
func (e *serverEnd) Ended(c *eventloop.Conn) {
	st := sessionOf(c)
	if st.phase == connecting {
		st.noTLS = true
		c.Close()
		return
	}
	e.handler().ended(st, c)
}

// TimedOut ends an attempt to connect, or a pair that has had its time.
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

// Closed tries another server if this one was not reached, or sees to the client.
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
		h.release(st)
		return
	}
	h.bereaved(st, c, st.client)
}
