package tcp

import (
	"net/netip"

	"reuseportd/internal/eventloop"
	"reuseportd/internal/upstream"
)

// phase is where a pair stands.
//
// It is part of what is handed over: append, never reorder.
type phase uint8

const (
	inHeader     phase = iota // the client's PROXY protocol header is awaited
	connecting                // no server has been reached yet
	passing                   // bytes go both ways
	cutting                   // one end is lost, the other gets what was received before
	over                      // what is left is the loop's: to write and to close
	inHello                   // the client's TLS hello is awaited, to choose an upstream by
	inHelloAsked              // likewise, of a client of PostgreSQL that has asked for TLS
)

// session is the State of both ends of a pair.
type session struct {
	// Invariant: not both are nil; the end that is closed last lets the session go.
	client, server *eventloop.Conn

	up *target // nil before it is chosen, and if it isn't configured any more
	// to is the server that is in use by this session, nil if none is.
	to *upstream.Server

	tried upstream.Tried
	late  bool // the attempt under way has had its time
	asked bool // the client has asked for TLS as PostgreSQL does, and so is the server
	noTLS bool // which has none

	source, destination netip.AddrPort // of the client's PROXY protocol header

	// fromClient and fromServer are the bytes that the server's counters have.
	fromClient, fromServer uint64

	moved uint64 // movement at the last look
	quiet uint8  // looks since then that found none
	kept  bool   // the server's keep-alive is on

	phase phase
}

// keepSessions bounds the unused sessions that are kept for later.
const keepSessions = 256

func (h *Handler) session() *session {
	if n := len(h.free); n > 0 {
		st := h.free[n-1]
		h.free = h.free[:n-1]
		return st
	}
	return new(session)
}

// release takes back a session that no connection has any more.
func (h *Handler) release(st *session) {
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
