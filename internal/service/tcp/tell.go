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

// tell reports a failure; server is "" if no single one is to blame.
func (h *Handler) tell(st *session, server, reason, text string) {
	h.failed.Tell(h.loop.Monotonic(), failure.Failure{
		Listener: h.listener, Upstream: st.up.name(), Server: server, Reason: reason, Text: text,
	})
}

// lost reports a server that reset a connection.
func (h *Handler) lost(st *session) {
	errno := h.loop.Cause()
	reason, text := upstream.Reset, ""
	switch errno {
	case unix.ECANCELED: // it didn't: the loop closes everything
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

// done ends a session's use of its server.
func (h *Handler) done(st *session) {
	if st.to != nil {
		st.up.chooser.Done(st.to)
		st.to = nil
	}
}

// count adds to the server's counters what has passed since the last call. Only a pair
// with both its ends knows how much that is.
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
