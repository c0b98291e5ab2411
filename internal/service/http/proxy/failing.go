package proxy

import (
	"golang.org/x/sys/unix"

	"reuseportd/internal/service/http/stream"
	"reuseportd/internal/upstream"
)

// serverFailed closes a connection that has failed, for a reason. It tries another server, or answers with an
// error, or aborts the answer if it has begun.
func (x *Relay) serverFailed(why upstream.Reason) {
	l := x.link
	connecting, begun := l.conn.Connecting(), l.call.HasBegun()
	// A server may close a connection that was idle, at any time. A request that crosses the
	// close is nobody's failure.
	stale := l.used && !begun && (why == upstream.ClosedEarly || why == upstream.Reset)
	x.detail = l.untrusted
	x.detach()
	l.conn.Close()
	if !stale {
		x.blame(why)
	}
	repeat := x.safe && x.whole && !begun && why != upstream.AnswerTimeout
	switch {
	case x.answered:
		x.abort()
	case stale && repeat:
		x.fresh = true
		x.attempt()
	case (connecting || repeat) && x.another(x.takeBytes()):
		x.attempt()
	default:
		x.fail(x.gateway())
	}
}

// unavailable answers when no server is available.
func (x *Relay) unavailable(why upstream.Why) {
	if x.failed > 0 {
		x.fail(x.gateway()) // those that were tried have failed
		return
	}
	x.tell("", why.String())
	x.fail(503)
}

// fail answers with an error in the server's place.
func (x *Relay) fail(status int) {
	s := x.s
	x.end()
	s.Fail(status)
}

// abort ends an answer that can't be completed.
func (x *Relay) abort() {
	s := x.s
	x.end()
	s.Abort()
}

// failOrAbort answers with an error, or aborts the answer if it has begun.
func (x *Relay) failOrAbort(status int) {
	if x.answered {
		x.abort()
	} else {
		x.fail(status)
	}
}

// end ends the relay and closes its connection to the server: with RST if the server hasn't acknowledged
// everything, since a FIN might then never reach it.
func (x *Relay) end() {
	l := x.link
	x.endUse()
	x.free()
	if l == nil {
		return
	}
	if l.conn.Unsent() > 0 {
		l.conn.ResetOnClose()
	}
	l.conn.Close()
}

// ended is called at the end of what the server sends.
func (x *Relay) ended() {
	if x.link.call.Closed() == stream.Complete {
		x.complete(false)
	} else {
		x.serverFailed(upstream.ClosedEarly)
	}
}

// timedOut is called when the timeout of the connection to the server has passed.
func (x *Relay) timedOut() {
	u := x.link.conn
	switch {
	case u.Connecting():
		x.serverFailed(upstream.ConnectTimeout)
	case x.s.Unsent() > 0:
		u.SetTimeout(x.route.patience) // we wait for the client, not for the server
	case !x.s.BodyRead():
		x.failOrAbort(408) // the client is too slow with its request
	default:
		x.serverFailed(upstream.AnswerTimeout)
	}
}

// closed is called when the loop has closed the connection to the server.
func (x *Relay) closed(cause unix.Errno) {
	switch cause {
	case 0:
		x.ended() // and the server takes nothing either
	case unix.ECANCELED:
		x.detach() // this process is ending, and cuts the client's connection next
	default:
		x.serverFailed(reasonOf(cause, x.link.conn.Connecting()))
	}
}

// TimedOut implements stream.Responder.
func (x *Relay) TimedOut() {
	if !x.answered && x.server != nil && x.s.BodyRead() {
		x.blame(upstream.AnswerTimeout)
	}
	x.failOrAbort(504)
}

// Ended implements stream.Responder: the request will never be whole, or its client is gone.
func (x *Relay) Ended() bool { return false }

// Gone implements stream.Responder.
func (x *Relay) Gone(_ unix.Errno, away bool) {
	if away {
		x.endUse() // another process has both connections now
		x.free()
		return
	}
	x.end()
}
