package http

import (
	"reuseportd/internal/eventloop"

	"reuseportd/internal/service/http/h1"
)

// phase is what a connection is in the middle of.
type phase uint8

const (
	inHead     phase = iota // part of a head has arrived
	inBody                  // a body is being read and thrown away
	inParts                 // an answer in several parts is being sent
	inExchange              // a server is to answer
)

// state is what a connection holds between two calls. An idle one holds none.
type state struct {
	phase phase
	scan  int  // inHead: bytes that were searched for the head's end
	blank bool // inHead: so far there is only an empty line

	// inBody: the head is kept and answered when the body has gone by.
	head   []byte
	body   h1.Chunks // where in a chunked body
	length int64     // of the body still to come; -1 for a chunked one
	pace   eventloop.Pace

	// inParts: what is left to send, and what comes then.
	parts   []part
	fd      int
	tail    []byte
	closing bool

	x *exchange // inExchange

	charged int // what the loop counts of it, in bytes
}

// state returns the connection's state, lending it one.
func (h *Handler) state(c *eventloop.Conn) *state {
	if st, ok := c.State.(*state); ok {
		return st
	}
	st, ok := h.free.Take()
	if !ok {
		st = &state{fd: -1}
	}
	h.charge(st, stateSize)
	c.State = st
	return st
}

// maxFree bounds the idle states that are kept for later, maxFreeHead the room for a head in each.
const (
	maxFree     = 256
	maxFreeHead = 16 << 10
)

// release takes the state back.
func (h *Handler) release(c *eventloop.Conn) {
	st, ok := c.State.(*state)
	if !ok {
		return
	}
	c.State = nil
	h.charge(st, 0)
	if st.fd >= 0 {
		closeFD(st.fd)
		h.loop.CountFiles(-1)
	}
	if st.x != nil {
		h.letGo(st.x)
		st.x = nil
	}
	if cap(st.head) <= maxFreeHead {
		*st = state{head: st.head[:0], parts: st.parts[:0], fd: -1}
		h.free.Keep(st, maxFree)
	}
}
