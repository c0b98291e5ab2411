package http

import (
	"unsafe"

	"reuseportd/internal/eventloop"
	"reuseportd/internal/service/http/message"
)

// What a state and an exchange are counted with, beside the heads that they keep, in bytes.
const (
	stateSize    = int(unsafe.Sizeof(state{}))
	exchangeSize = int(unsafe.Sizeof(exchange{}) + unsafe.Sizeof(link{}))
)

// charge tells the loop how many bytes a state holds now.
func (h *Handler) charge(st *state, n int) {
	h.loop.Charge(n - st.charged)
	st.charged = n
}

// chargeHeads is charge with the head that the state or its exchange keeps.
func (h *Handler) chargeHeads(st *state) {
	n := stateSize + cap(st.head)
	if st.x != nil {
		n += exchangeSize + cap(st.x.raw)
	}
	h.charge(st, n)
}

// Held implements eventloop.Shedder.
func (h *Handler) Held(c *eventloop.Conn) int {
	if st, ok := c.State.(*state); ok {
		return st.charged
	}
	return 0
}

// Shed answers 503 where no answer has begun, and closes the connection.
func (h *Handler) Shed(c *eventloop.Conn) {
	st, ok := c.State.(*state)
	switch {
	case !ok || st.phase == inParts:
		c.Close()
	case st.phase == inHead:
		h.req = message.Request{Minor: 1}
		h.refuse(c, 503)
		h.release(c)
	case st.phase == inBody:
		h.recall(st)
		h.refuse(c, 503)
		h.release(c) // the request's slices lie in its head
	case st.x.phase == inTunnel:
		c.Close()
	default:
		h.fail(st.x, 503) // breaks off what has begun
		if !c.Finishing() {
			c.Finish(true)
		}
	}
}

// trim lets go of room that was kept for later and not needed.
func (h *Handler) trim() {
	h.free.Trim(func(*state) {})
	h.exchanges.Trim(func(*exchange) {})
}
