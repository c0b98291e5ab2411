package tcp

import (
	"net/netip"

	"reuseportd/internal/eventloop"
	"reuseportd/internal/upstream"
)

// phase is how far a session has come.
//
// It is part of what is handed over: append, never reorder.
type phase uint8

const (
	inHeader     phase = iota // the client's PROXY protocol header is awaited
	connecting                // no server has been reached yet
	passing                   // bytes go both ways
	cutting                   // one end is lost, the other is sent what was received before
	over                      // the loop writes what is left, and closes
	inHello                   // the client's TLS hello is awaited, by which the upstream is chosen
	inHelloAsked              // likewise, from a client that has asked for TLS as PostgreSQL's do
)

// session is the State of both ends of a pair.
type session struct {
	// Invariant: at least one is not nil. The end that is closed last frees the session.
	client, server *eventloop.Conn

	up *target // nil until it is chosen, and if it is no longer configured
	// to is the server that this session uses, nil if none.
	to *upstream.Server

	tried     upstream.Tried
	late      bool   // the attempt under way has timed out
	asked     bool   // the client has asked for TLS as PostgreSQL's clients do, so the server is asked likewise
	noTLS     bool   // the server refuses TLS, as PostgreSQL's does
	untrusted string // why there is no TLS with the server

	source, destination netip.AddrPort // of the client's PROXY protocol header

	// fromClient and fromServer are the bytes that have been added to the server's counters.
	fromClient, fromServer uint64

	moved uint64 // movement at the last look
	quiet uint8  // looks since then that found none
	kept  bool   // the server's keep-alive is on

	phase phase
}

// keepSessions bounds the sessions that are kept for reuse.
const keepSessions = 256

func (h *Handler) session() *session {
	if n := len(h.free); n > 0 {
		st := h.free[n-1]
		h.free = h.free[:n-1]
		return st
	}
	return new(session)
}

// freeSession keeps a session that has no connection left for reuse.
func (h *Handler) freeSession(st *session) {
	*st = session{}
	if len(h.free) < keepSessions {
		h.free = append(h.free, st)
	}
}

// sessionOf returns the session of either end.
func sessionOf(c *eventloop.Conn) *session {
	st, _ := c.State.(*session)
	return st
}

// other returns the other end of a session; nil if it is closed.
func (st *session) other(c *eventloop.Conn) *eventloop.Conn {
	if c == st.client {
		return st.server
	}
	return st.client
}
