package h1

import (
	"unsafe"

	"reuseportd/internal/eventloop"
	"reuseportd/internal/service/http/message"
	"reuseportd/internal/service/http/stream"
)

// headWork is the cost of a byte of a head, in the event loop's unit of work. In the worst case,
// fields of one byte each, it is three times as much.
const headWork = 8

// readHead answers one request, if its head is complete. s is nil unless an earlier call has
// read part of it.
func (h *Handler) readHead(c *eventloop.Conn, s *Stream, in []byte) int {
	from := 0
	if s != nil {
		from = s.scan
	}
	n, status := ParseRequest(in, from, h.conf.Limits, &h.req, &h.scratch)
	h.current = nil
	switch {
	case status != 0:
		h.refuseRead(c, status)
		return len(in)
	case n == 0:
		if s == nil {
			s = h.attach(c)
			s.phase = InHead
			c.SetTimeout(h.header) // from the first byte on, not from the latest
		}
		s.scan, s.blank = len(in), len(in) <= 2 && in[0] == '\r'
		return 0
	}
	if s != nil {
		h.detach(c)
	}
	c.Spend(n * headWork)
	if h.req.Length > h.conf.Limits.Body {
		h.refuseRead(c, 413)
		return len(in)
	}
	if t, ok := c.Sealed().(misdirected); ok && !t.Covers(h.req.Host) {
		h.refuseRead(c, 421)
		return len(in)
	}
	route, status := h.site.Find(&h.req)
	switch {
	case status != 0:
		h.refuseRead(c, status)
		return len(in)
	case route.ReadsBody():
		return h.begin(c, route, in, n)
	case h.req.Chunked || h.req.Length > int64(len(in)-n):
		h.expectBody(c, in[:n])
		return n
	}
	head := in[:n]
	n += int(h.req.Length)
	s = h.spare
	if r := h.serve(c, s, route, n == len(in)); r != nil {
		s.head = append(s.head[:0], head...)
		h.keep(c, s, r)
		h.spare = h.room()
	}
	return n
}

// misdirected is implemented by transports that know which hosts a connection is for.
type misdirected interface{ Covers(host []byte) bool }

// serve lets a route answer the request in h.req, whose body has been read. It returns the responder
// that continues the answer, nil if it has ended.
func (h *Handler) serve(c *eventloop.Conn, s *Stream, route stream.Route, last bool) stream.Responder {
	h.loop.Count().Requests++
	c.CountServed()
	s.start(h, c, last)
	return route.Serve(s, &h.req, nil)
}

// keep attaches a stream whose answer has not ended to its connection.
func (h *Handler) keep(c *eventloop.Conn, s *Stream, r stream.Responder) {
	s.phase, s.responder = Answering, r
	c.State, h.current = s, nil
	c.SetTimeout(0)
	h.chargeAll(s)
}

// maxHeld bounds a head together with its body that a route is given at once, in bytes.
const maxHeld = 64 << 10

// begin lets a route that reads bodies answer the request in h.req, whose head is in[:n]. It returns how
// much of the input was consumed.
func (h *Handler) begin(c *eventloop.Conn, route stream.Route, in []byte, n int) int {
	r := &h.req
	h.loop.Count().Requests++
	c.CountServed()
	s := h.attach(c)
	s.phase, s.head = Answering, append(s.head[:0], in[:n]...)
	s.start(h, c, false)
	var body []byte
	switch {
	case r.Chunked:
		s.read = false
	case r.Length <= int64(len(in)-n) && (r.Length == 0 || n+int(r.Length) <= maxHeld):
		body = in[n : n+int(r.Length)]
		n += int(r.Length)
	default:
		s.read = false
	}
	s.last = n == len(in)
	h.chargeAll(s)
	c.Hold() // the next request waits for the answer, the body for its reader
	if responder := route.Serve(s, r, body); responder != nil {
		s.responder = responder
		h.chargeAll(s)
	}
	h.current = nil
	return n
}

// expectBody keeps a head until the body that it announces has been read.
func (h *Handler) expectBody(c *eventloop.Conn, head []byte) {
	s := h.attach(c)
	s.phase, s.head = InBody, append(s.head[:0], head...)
	h.chargeAll(s)
	s.length, s.body = h.req.Length, Chunks{}
	if h.req.Chunked {
		s.length = -1
	}
	if h.req.Expect {
		c.Write([]byte("HTTP/1.1 100 Continue\r\n\r\n"))
	}
	c.Await(&s.pace)
	c.SetTimeout(h.body)
}

// discardBody reads a body and discards it, and answers at its end.
func (h *Handler) discardBody(c *eventloop.Conn, s *Stream, in []byte) int {
	var n int
	if s.length >= 0 {
		n = int(min(s.length, int64(len(in))))
		s.length -= int64(n)
	} else {
		var status int
		n, status = s.body.Discard(in, h.conf.Limits)
		if c.Spend(s.body.Work()); status != 0 {
			h.refuse(c, s, status)
			return len(in)
		}
	}
	if s.length > 0 || s.length < 0 && s.body.Step != Done {
		if !c.KeepsUp(&s.pace, n) {
			h.loop.Count().Slow++
			h.refuse(c, s, 408)
			return len(in)
		}
		c.SetTimeout(h.body)
		return n
	}
	h.recall(s)
	route, status := h.site.Find(&h.req)
	if status != 0 {
		h.refuse(c, s, status)
		return len(in)
	}
	c.State = nil // the request's slices lie in its head, so it is freed after use
	if r := h.serve(c, s, route, n == len(in)); r != nil {
		h.keep(c, s, r)
	} else {
		h.freeStream(s)
	}
	return n
}

// passBody gives the responder what has come of a body.
func (h *Handler) passBody(c *eventloop.Conn, s *Stream, in []byte) (n int) {
	if !s.wants || s.read {
		return 0 // the loop passes it on, or it has to wait
	}
	n, done, status := s.passPieces(in)
	if c.Spend(s.body.Work()); status != 0 {
		s.cancel(status)
		return len(in)
	}
	if done {
		h.bodyRead(s, n == len(in))
	}
	to := s.responder.Came(done)
	switch {
	case c.State != s: // the answer has ended
	case !done && !h.comes(c, s, n):
		h.TooSlow(c)
		return len(in)
	case to != nil:
		c.WaitFor(to)
	}
	return n
}

// passPieces does so piece by piece. It returns the bytes consumed, whether the body has ended, and 0 or the
// status with which it is to be refused.
func (s *Stream) passPieces(in []byte) (n int, done bool, status int) {
	if s.length >= 0 {
		n = int(min(s.length, int64(len(in))))
		s.responder.Data(in[:n])
		s.length -= int64(n)
		return n, s.length == 0, 0
	}
	for {
		k, piece, status := s.body.Next(in[n:], s.h.conf.Limits)
		n += k
		switch {
		case status != 0, piece == nil:
			return n, s.body.Step == Done, status
		case s.body.Step == InTrailer:
			s.responder.Trailer(message.CutLine(piece))
		default:
			s.responder.Data(piece)
		}
	}
}

// comes reports whether a body comes fast enough. If the event loop passes the body on, its receiver
// sets the timeout.
func (h *Handler) comes(c *eventloop.Conn, s *Stream, n int) bool {
	if c.Partner() != nil {
		return c.Brings(n)
	}
	c.SetTimeout(h.body)
	if !c.KeepsUp(&s.pace, n) {
		h.loop.Count().Slow++
		return false
	}
	return true
}

// bodyRead is called when all of a request's body has been read. What follows it in the
// input waits.
func (h *Handler) bodyRead(s *Stream, last bool) {
	s.read, s.last = true, last
	s.c.Duplex(false)
	s.c.Hold()
}

// recall parses a kept head again.
func (h *Handler) recall(s *Stream) {
	ParseRequest(s.head, 0, h.conf.Limits, &h.req, &h.scratch)
	h.current = nil
}

// refuse refuses a request that a connection's stream has read in part.
func (h *Handler) refuse(c *eventloop.Conn, s *Stream, status int) {
	if s.phase == InBody {
		h.recall(s)
	} else {
		h.req = message.Request{Minor: 1}
	}
	h.refuseRead(c, status)
}

// refuseRead answers the request in h.req with an error and ends the connection, since it isn't known
// where the refused request ends.
func (h *Handler) refuseRead(c *eventloop.Conn, status int) {
	h.loop.Count().Requests++
	h.req.KeepAlive = true // so that we wait for the client to close first
	s := h.spare
	s.start(h, c, false)
	s.refused = true
	s.Fail(status)
	h.current = nil
}

// attach returns the connection's stream, and gives it one if it has none.
func (h *Handler) attach(c *eventloop.Conn) *Stream {
	if s, ok := c.State.(*Stream); ok {
		return s
	}
	s := h.room()
	h.charge(s, streamSize)
	c.State = s
	return s
}

func (h *Handler) room() *Stream {
	if s, ok := h.free.Take(); ok {
		return s
	}
	return new(Stream)
}

// maxFree bounds the idle streams that are kept for later, maxFreeHead the room for a head in each.
const (
	maxFree     = 256
	maxFreeHead = 16 << 10
)

// detach frees a connection's stream. What it has queued is still written.
func (h *Handler) detach(c *eventloop.Conn) {
	if s, ok := c.State.(*Stream); ok {
		c.State = nil
		h.freeStream(s)
	}
}

// freeStream keeps a stream's memory for another one.
func (h *Handler) freeStream(s *Stream) {
	h.charge(s, 0)
	if h.current == s {
		h.current = nil
	}
	head := s.head
	*s = Stream{}
	if cap(head) <= maxFreeHead {
		s.head = head[:0]
		h.free.Keep(s, maxFree)
	}
}

// streamSize is the memory counted for a stream, without the head that it keeps, in
// bytes.
const streamSize = int(unsafe.Sizeof(Stream{}))

// charge tells the loop how many bytes a stream holds.
func (h *Handler) charge(s *Stream, n int) {
	h.loop.Charge(n - s.charged)
	s.charged = n
}

// chargeAll charges for the stream, the head that it keeps and what its responder holds.
func (h *Handler) chargeAll(s *Stream) {
	n := streamSize + cap(s.head)
	if s.responder != nil {
		n += s.responder.Held()
	}
	h.charge(s, n)
}
