package proxy

import (
	"golang.org/x/sys/unix"

	"reuseportd/internal/service/failure"
	"reuseportd/internal/upstream"
)

// attempts is which servers a request goes to, one after another, and how it went.
type attempts struct {
	hub    *Hub
	pool   *Pool            // nil for a tunnel that came from another process, of an upstream that is gone
	server *upstream.Server // counted as in use; nil while none is
	tried  upstream.Tried
	key    uint64 // that a server is chosen by
	failed int    // how many did
	fresh  bool   // no connection that was used before is to be used
	late   bool   // the latest failed because its time was over
	local  bool   // …or for want of descriptors or ports here
}

// pick chooses a server unless there is one. It returns false, and why, if there is none to be had.
func (a *attempts) pick() (why upstream.Why, ok bool) {
	if a.server == nil {
		a.server, why = a.pool.chooser.Pick(a.hub.loop.Monotonic(), a.key, &a.tried)
	}
	return why, a.server != nil
}

// blame counts a failure against the server, and tells of it.
func (a *attempts) blame(why upstream.Reason) {
	s := a.server
	if s == nil {
		return
	}
	a.late = why == upstream.ConnectTimeout || why == upstream.AnswerTimeout
	a.local = why.Local()
	a.pool.chooser.Failed(s, a.hub.loop.Monotonic(), why)
	a.tell(s.Name(), why.String())
}

// tell tells of a failure.
func (a *attempts) tell(server, reason string) {
	a.pool.teller.Tell(a.hub.loop.Monotonic(), failure.Failure{
		Listener: a.hub.listener, Upstream: a.pool.conf.Name, Server: server, Reason: reason,
	})
}

// another ends the use of a server that failed, with what came from it and went to it, and reports whether
// one more may be tried.
func (a *attempts) another(in, out uint64) bool {
	a.tried.Add(a.server)
	a.done(in, out)
	a.failed++
	return a.failed <= a.pool.conf.Retries && !a.local // no server can do better
}

// done ends the use of the server.
func (a *attempts) done(in, out uint64) {
	if a.server != nil {
		a.server.AddBytes(in, out)
		a.pool.chooser.Done(a.server)
		a.server = nil
	}
}

// gateway is the status for what the latest failure was.
func (a *attempts) gateway() int {
	switch {
	case a.late:
		return 504
	case a.local:
		return 503
	}
	return 502
}

// reasonOf says what an error of a connection means for the server.
func reasonOf(errno unix.Errno, connecting bool) upstream.Reason {
	if errno == unix.ETIMEDOUT && !connecting {
		return upstream.AnswerTimeout // it was connected
	}
	return upstream.ReasonOf(errno)
}
