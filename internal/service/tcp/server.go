package tcp

import (
	"reuseportd/internal/eventloop"
)

// serverEnd handles the connections to servers.
type serverEnd Handler

func (e *serverEnd) handler() *Handler { return (*Handler)(e) }

// Opened makes the pair: the server is reached.
func (e *serverEnd) Opened(c *eventloop.Conn) { e.handler().reached(sessionOf(c)) }

// Received is never called: all input is passed, or not read any more.
func (e *serverEnd) Received(*eventloop.Conn, []byte) int { return 0 }

// Flushed is never called: nothing is sent from where it lies.
func (e *serverEnd) Flushed(*eventloop.Conn) {}

// Passed counts, and has it go on.
func (e *serverEnd) Passed(c *eventloop.Conn) { e.handler().Passed(c) }

// Ended passes the server's end on.
func (e *serverEnd) Ended(c *eventloop.Conn) { e.handler().ended(sessionOf(c), c) }

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
