package tcp

import (
	"golang.org/x/sys/unix"

	"reuseportd/internal/service/failure"
	"reuseportd/internal/upstream"
)

// name returns the server's address as shown.
func (st *session) name() string {
	if st.to == nil {
		return ""
	}
	return st.to.Name()
}

// tell has a failure logged; server is "" where none is to blame.
func (h *Handler) tell(st *session, server, reason, text string) {
	h.failed.Tell(h.loop.Monotonic(), failure.Failure{
		Listener: h.listener, Upstream: st.up.name(), Server: server, Reason: reason, Text: text,
	})
}

// lost tells of a server that broke a connection off.
func (h *Handler) lost(st *session) {
	errno := h.loop.Cause()
	reason, text := upstream.Reset, ""
	switch errno {
	case unix.ECANCELED: // it didn't: the loop closes all
		return
	case unix.ECONNRESET:
	default:
		reason, text = upstream.Other, errno.Error() // ETIMEDOUT: its keep-alive failed
	}
	h.tell(st, st.name(), reason.String(), text)
	if st.to != nil {
		st.to.AddFailure(reason)
	}
}

// done gives back the server that a session had in use.
func (h *Handler) done(st *session) {
	if st.to != nil {
		st.up.chooser.Done(st.to)
		st.to = nil
	}
}

// count gives the server's counters what they don't have yet. Only a whole pair knows
// what it has passed.
func (h *Handler) count(st *session) {
	if st.client == nil || st.server == nil || st.client.Partner() != st.server {
		return
	}
	in, out := st.server.Passed(), st.client.Passed()
	if st.to != nil {
		st.to.AddBytes(in-st.fromServer, out-st.fromClient)
	}
	st.fromServer, st.fromClient = in, out
}
