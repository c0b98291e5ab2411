package proxy

import (
	"golang.org/x/sys/unix"

	"reuseportd/internal/service/failure"
	"reuseportd/internal/upstream"
)

// attempts chooses the servers that a request is sent to, one after another, and records
// how that went.
type attempts struct {
	hub    *Hub
	pool   *Pool            // nil for a tunnel from another process whose upstream is no longer configured
	server *upstream.Server // the one in use, which counts that; nil if none
	tried  upstream.Tried
	key    uint64 // by which a server is chosen
	failed int    // failed attempts
	fresh  bool   // take a new connection, not one that was used before
	late   bool   // the latest attempt timed out
	local  bool   // …or failed for want of descriptors or ports here
	detail string // why it failed, where that takes more than a reason
}

// pick chooses a server, unless one is in use. If none is available it returns false, and why.
func (a *attempts) pick() (why upstream.Why, ok bool) {
	if a.server == nil {
		a.server, why = a.pool.chooser.Pick(a.hub.loop.Monotonic(), a.key, &a.tried)
	}
	return why, a.server != nil
}

// blame counts a failure against the server, and reports it.
func (a *attempts) blame(why upstream.Reason) {
	s := a.server
	if s == nil {
		return
	}
	a.late = why == upstream.ConnectTimeout || why == upstream.AnswerTimeout
	a.local = why.Local()
	a.pool.chooser.Failed(s, a.hub.loop.Monotonic(), why)
	a.tell(s.Name(), why.String())
	a.detail = ""
}

// tell reports a failure.
func (a *attempts) tell(server, reason string) {
	a.pool.teller.Tell(a.hub.loop.Monotonic(), failure.Failure{
		Listener: a.hub.listener, Upstream: a.pool.conf.Name, Server: server, Reason: reason, Text: a.detail,
	})
}

// another ends the use of a server that failed, after in bytes from it and out bytes to it, and reports
// whether another attempt is allowed.
func (a *attempts) another(in, out uint64) bool {
	a.tried.Add(a.server)
	a.done(in, out)
	a.failed++
	return a.failed <= a.pool.conf.Retries && !a.local // no server can do better
}

// done ends the use of the server, after in bytes from it and out bytes to it.
func (a *attempts) done(in, out uint64) {
	if a.server != nil {
		a.server.AddBytes(in, out)
		a.pool.chooser.Done(a.server)
		a.server = nil
	}
}

// gateway returns the status for the latest failure: 502, 503 or 504.
func (a *attempts) gateway() int {
	switch {
	case a.late:
		return 504
	case a.local:
		return 503
	}
	return 502
}

// reasonOf returns what an error of a connection says about the server.
func reasonOf(errno unix.Errno, connecting bool) upstream.Reason {
	if errno == unix.ETIMEDOUT && !connecting {
		return upstream.AnswerTimeout // the connection had been made
	}
	return upstream.ReasonOf(errno)
}
