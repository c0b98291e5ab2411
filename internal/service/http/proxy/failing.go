package proxy

import (
	"golang.org/x/sys/unix"

	"reuseportd/internal/service/http/stream"
	"reuseportd/internal/upstream"
)

// serverFailed records that the connection to the server is of no more use, for a reason, and goes on with another
// one, or answers, or breaks the answer off.
func (x *Relay) serverFailed(why upstream.Reason) {
	l := x.link
	connecting, begun := l.conn.Connecting(), l.call.HasBegun()
	// A server may close a connection that was idle, at any time. That the request came
	// too late is nobody's failure.
	stale := l.used && !begun && (why == upstream.ClosedEarly || why == upstream.Reset)
	x.unlink()
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

// unavailable answers when there is no server to be had.
func (x *Relay) unavailable(why upstream.Why) {
	if x.failed > 0 {
		x.fail(x.gateway()) // those that there were have failed
		return
	}
	x.tell("", why.String())
	x.fail(503)
}

// fail answers in the server's place.
func (x *Relay) fail(status int) {
	s := x.s
	x.release()
	s.Fail(status)
}

// abort ends an answer that can't be brought to its end.
func (x *Relay) abort() {
	s := x.s
	x.release()
	s.Abort()
}

// failOrAbort does what can still be done.
func (x *Relay) failOrAbort(status int) {
	if x.answered {
		x.abort()
	} else {
		x.fail(status)
	}
}

// release ends the use of the server and closes the connection to it: with RST if the server hasn't taken
// all, for an end that comes after that may never reach it. The relay is over.
func (x *Relay) release() {
	l := x.link
	x.leave()
	x.recycle()
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

// timedOut is called when the server was waited for long enough.
func (x *Relay) timedOut() {
	u := x.link.conn
	switch {
	case u.Connecting():
		x.serverFailed(upstream.ConnectTimeout)
	case x.s.Unsent() > 0:
		u.SetTimeout(x.route.patience) // it is the client that is waited for
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
		x.unlink() // by this process, which ends: the client's turn comes
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
		x.leave() // another process has both connections
		x.recycle()
		return
	}
	x.release()
}
