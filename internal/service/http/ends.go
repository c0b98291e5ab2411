package http

import "reuseportd/internal/eventloop"

// ends is what is done with connections to servers. The exchange that one of them
// belongs to decides, and without one there is nothing to be done but to close it.
type ends struct {
	pools map[string]*Pool // for those that come from another process
}

// Opened sends the request that the connection was made for.
func (e *ends) Opened(c *eventloop.Conn) {
	if l := c.State.(*link); l.x != nil {
		l.server.AddConnect()
		l.x.h.request(l.x, false)
	} else {
		c.Close()
	}
}

// Received reads a response. A server that speaks unasked is not to be trusted with a
// request: what it has said would be taken for the answer.
func (e *ends) Received(c *eventloop.Conn, in []byte) int {
	l := c.State.(*link)
	if l.x == nil {
		c.Close()
		return len(in)
	}
	return l.x.h.receive(l.x, in)
}

// Passed is called when all of a response's content has gone by. What lies behind it has not
// been read: whoever got the connection next would take it for the answer.
func (e *ends) Passed(c *eventloop.Conn) {
	if x := c.State.(*link).x; x != nil {
		x.h.complete(x, c.Silent())
	}
}

// Flushed has nothing to do: whole messages are queued.
func (e *ends) Flushed(*eventloop.Conn) {}

// Ended is the end of a response that has no other, of a tunnel's one side, or of a
// connection that is of no more use.
func (e *ends) Ended(c *eventloop.Conn) {
	if x := c.State.(*link).x; x != nil {
		x.h.ended(x)
	} else {
		c.Close()
	}
}

// TimedOut gives up waiting.
func (e *ends) TimedOut(c *eventloop.Conn) {
	if x := c.State.(*link).x; x != nil {
		x.h.serverTimedOut(x)
	} else {
		c.Close()
	}
}

// Closed tells the exchange, if the connection still had one.
func (e *ends) Closed(c *eventloop.Conn) {
	l := c.State.(*link)
	if l.x != nil {
		l.x.serverClosed(c.Loop().Cause())
	}
	l.drop()
}
