package http

import (
	"golang.org/x/sys/unix"

	"reuseportd/internal/eventloop"
	"reuseportd/internal/service/failure"
	"reuseportd/internal/service/http/h1"
	"reuseportd/internal/upstream"
)

// failed takes note that the connection to an exchange's server is of no more use, for a
// reason, and goes on with another, or answers, or breaks the answer off.
func (h *Handler) failed(x *exchange, why upstream.Reason) {
	l := x.link
	connecting := l.conn.Connecting()
	// A server may close a connection that was idle, at any time. That the request came
	// too late is nobody's failure.
	stale := l.used && !x.begun && (why == upstream.ClosedEarly || why == upstream.Reset)
	x.unlink()
	l.conn.Close()
	if !stale {
		x.blame(why)
	}
	repeat := x.safe && x.whole && !x.begun && why != upstream.AnswerTimeout
	switch {
	case x.phase != beforeHead:
		h.breakOff(x)
	case stale && repeat:
		x.fresh = true
		h.attempt(x, false)
	case (connecting || repeat) && x.another():
		h.attempt(x, false)
	default:
		h.fail(x, x.gateway())
	}
}

// blame has a failure counted against the server, and told.
func (x *exchange) blame(why upstream.Reason) {
	s, now := x.server, x.h.loop.Monotonic()
	if s == nil {
		return
	}
	x.late = why == upstream.ConnectTimeout || why == upstream.AnswerTimeout
	x.local = why.Local()
	x.pool.chooser.Failed(s, now, why)
	x.tell(s.Name(), why.String())
}

// tell tells of a failure.
func (x *exchange) tell(server, reason string) {
	x.pool.teller.Tell(x.h.loop.Monotonic(), failure.Failure{
		Listener: x.h.site.listener, Upstream: x.pool.conf.Name, Server: server, Reason: reason,
	})
}

// another lets go of a server that failed, and tells whether one more may be tried.
func (x *exchange) another() bool {
	x.server.AddBytes(x.in, x.out)
	x.in, x.out = 0, 0
	x.tried.Add(x.server)
	x.pool.chooser.Done(x.server)
	x.server = nil
	x.attempts++
	return x.attempts <= x.pool.conf.Retries && !x.local // no server can do better
}

// gateway is the status for what the latest failure was.
func (x *exchange) gateway() int {
	switch {
	case x.late:
		return 504
	case x.local:
		return 503
	}
	return 502
}

// none answers when there is no server to be had.
func (h *Handler) none(x *exchange, why upstream.Why) {
	if x.attempts > 0 {
		h.fail(x, x.gateway()) // those that there were have failed
		return
	}
	x.tell("", why.String())
	h.fail(x, 503)
}

// fail answers in a server's place. The exchange is over.
func (h *Handler) fail(x *exchange, status int) {
	c := x.client
	if x.phase != beforeHead {
		h.breakOff(x)
		return
	}
	h.recallOf(x)
	closing := !x.keeps || !x.sent || x.last && c.Leaving() || h.life.over(c)
	h.req.KeepAlive = x.keeps || !x.sent // so that next waits for the client
	h.sever(x)
	h.letClient(c)
	h.ans.reset()
	h.ans.fail(status)
	h.send(c, closing)
	c.SetBusy(false)
	c.Push()
}

// breakOff ends an answer that can't be brought to its end, so that its client sees that
// this isn't it.
func (h *Handler) breakOff(x *exchange) {
	c := x.client
	h.logExchange(x)
	open := x.bare || x.framing == h1.NoContent // nothing but the connection's end tells its end
	h.sever(x)
	h.letClient(c)
	if open {
		c.Abort()
		return
	}
	c.Finish(true)
	c.Wake()
}

// sever parts an exchange from its server, and closes the connection: with RST if the
// server hasn't taken all, for an end that comes after that may never reach it.
func (h *Handler) sever(x *exchange) {
	l := x.link
	h.part(x)
	if l == nil {
		return
	}
	if l.conn.Unsent() > 0 {
		l.conn.ResetOnClose()
	}
	l.conn.Close()
}

// serverTimedOut is called when a connection to a server was waited for long enough.
func (h *Handler) serverTimedOut(x *exchange) {
	u := x.link.conn
	switch {
	case x.phase == inTunnel:
		h.tunnelTimedOut(x)
	case u.Connecting():
		h.failed(x, upstream.ConnectTimeout)
	case x.client.Unsent() > 0:
		u.SetTimeout(x.to.patience) // it is the client that is waited for
	case !x.sent:
		h.unfinished(x)
	default:
		h.failed(x, upstream.AnswerTimeout)
	}
}

// unfinished ends an exchange whose client is too slow with its request.
func (h *Handler) unfinished(x *exchange) {
	if x.phase == beforeHead {
		h.fail(x, 408)
	} else {
		h.breakOff(x)
	}
}

// TooSlow implements eventloop.Pacer.
func (h *Handler) TooSlow(c *eventloop.Conn) {
	if st, ok := c.State.(*state); ok && st.phase == inExchange {
		h.unfinished(st.x)
	}
}

// serverClosed is called when the loop has closed the connection to a server.
func (x *exchange) serverClosed(cause unix.Errno) {
	h := x.h
	switch {
	case x.phase == inTunnel:
		h.tunnelClosed(x, x.link.conn, cause)
	case cause == 0:
		h.ended(x) // and the server takes nothing either
	case cause == unix.ECANCELED:
		x.unlink() // by this process, which ends: the client's turn comes
	default:
		h.failed(x, reasonOf(cause, x.link.conn.Connecting()))
	}
}

// clientClosed gives up an exchange that nobody waits for.
func (h *Handler) clientClosed(x *exchange, cause unix.Errno) {
	if x.client.Away() && x.phase != inTunnel {
		h.part(x) // another process has it
		return
	}
	if x.phase == inTunnel {
		h.tunnelClosed(x, x.client, cause)
		return
	}
	if x.phase == beforeHead {
		x.status = statusGone
	} else if x.bare {
		x.client.ResetOnClose() // if it was this process that ended it, it isn't to look whole
	}
	h.logExchange(x)
	h.sever(x)
}

// statusGone is what an access log says of a request whose client has gone before the
// answer. No client ever sees it.
const statusGone = 499

// clientEnded is called when a client has shut its side in the middle of a request, or of
// a tunnel.
func (h *Handler) clientEnded(c *eventloop.Conn, x *exchange) {
	if x.phase == inTunnel {
		h.tunnelEnded(x, c, x.link.conn)
		return
	}
	c.Close() // the request will never be whole; see Closed
}

// clientTimedOut ends an exchange that has had its time.
func (h *Handler) clientTimedOut(x *exchange) {
	switch {
	case x.phase == inTunnel:
		x.client.Close()
	case x.phase == beforeHead:
		if x.server != nil && x.sent {
			x.blame(upstream.AnswerTimeout)
		}
		h.fail(x, 504)
	default:
		h.breakOff(x)
	}
}

// reasonOf says what an error of a connection means for the server.
func reasonOf(errno unix.Errno, connecting bool) upstream.Reason {
	if errno == unix.ETIMEDOUT && !connecting {
		return upstream.AnswerTimeout // it was connected
	}
	return upstream.ReasonOf(errno)
}
