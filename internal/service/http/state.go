package http

import "reuseportd/internal/eventloop"

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
	body   chunks // where in a chunked body
	length int64  // of the body still to come; -1 for a chunked one

	// inParts: what is left to send, and what comes then.
	parts   []part
	fd      int
	tail    []byte
	closing bool

	x *exchange // inExchange
}

// state returns the connection's state, lending it one.
func (h *Handler) state(c *eventloop.Conn) *state {
	if st, ok := c.State.(*state); ok {
		return st
	}
	var st *state
	if n := len(h.free); n > 0 {
		st, h.free = h.free[n-1], h.free[:n-1]
	} else {
		st = &state{fd: -1}
	}
	c.State = st
	return st
}

// maxFree bounds the idle states that are kept for later.
const maxFree = 256

// release takes the state back.
func (h *Handler) release(c *eventloop.Conn) {
	st, ok := c.State.(*state)
	if !ok {
		return
	}
	c.State = nil
	if st.fd >= 0 {
		closeFD(st.fd)
		h.loop.CountFiles(-1)
	}
	if st.x != nil {
		h.letGo(st.x)
		st.x = nil
	}
	if len(h.free) < maxFree && cap(st.head) <= 64<<10 {
		*st = state{head: st.head[:0], parts: st.parts[:0], fd: -1}
		h.free = append(h.free, st)
	}
}
