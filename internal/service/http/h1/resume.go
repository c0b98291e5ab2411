package h1

import (
	"errors"
	"math"

	"reuseportd/internal/eventloop"
	"reuseportd/internal/pack"
	"reuseportd/internal/service/http/message"
	"reuseportd/internal/service/http/stream"
)

// A connection that is in the middle of something goes to another process as data: State, and
// what the responder adds.

// State is what a connection's stream holds, without its responder.
type State struct {
	Phase Phase
	Blank bool   // InHead: so far there is only an empty line
	Head  []byte // in the phase InBody; in Answering, if it was kept
	Body  Chunks // position in a chunked body
	Left  int64  // bytes still to come of a body that is read here; -1 for a chunked one

	// Answering.
	Read     bool    // all of the request has been read
	Last     bool    // …and no byte behind it
	Begun    bool    // a head was queued
	Chunked  bool    // its content is coded in chunks
	Bare     bool    // …ends with the connection
	Coding   Encoder // of the content
	Closing  bool    // the connection ends behind the answer
	Logged   bool
	Switched bool // the connection belongs to the responder, unframed
	Status   int
	Content  int64 // bytes, for the access log
}

// Record writes or reads an answer's state, in the phase Answering.
func (st *State) Record(r *pack.Record) {
	r.Bytes(&st.Head)
	st.Body.Record(r)
	left := st.Left + 1
	r.Int64(&left, math.MaxInt64)
	st.Left = left - 1
	r.Bool(&st.Read)
	r.Bool(&st.Last)
	r.Bool(&st.Begun)
	r.Bool(&st.Chunked)
	r.Bool(&st.Bare)
	r.Bool(&st.Coding.Last)
	r.Bool(&st.Closing)
	r.Bool(&st.Logged)
	r.Bool(&st.Switched)
	r.Int(&st.Status, 999)
	r.Int64(&st.Content, math.MaxInt64)
	if r.Reads() {
		st.Phase = Answering
	}
}

// Record writes or reads the position in a chunked body.
func (k *Chunks) Record(r *pack.Record) {
	step := int(k.Step)
	r.Int(&step, int(Done))
	k.Step = ChunkStep(step)
	r.Int64(&k.Left, math.MaxInt64)
	r.Int64(&k.Total, math.MaxInt64)
	r.Int(&k.Lines, 1<<30)
}

// Stream returns what a connection is in the middle of, nil if that is nothing.
func (h *Handler) Stream(c *eventloop.Conn) *Stream {
	s, _ := c.State.(*Stream)
	return s
}

// Responder returns what answers the stream, nil if nothing does.
func (s *Stream) Responder() stream.Responder { return s.responder }

// State returns what the stream holds, in memory that is the stream's.
func (s *Stream) State() State {
	return State{
		Phase: s.phase, Blank: s.blank, Head: s.head, Body: s.body, Left: s.length,
		Read: s.read, Last: s.last, Begun: s.begun, Chunked: s.chunked, Bare: s.bare, Coding: s.coding, Closing: s.closing,
		Logged: s.logged, Switched: s.switched,
		Status: s.status, Content: s.content,
	}
}

// Resume makes an idle connection from another process wait for a request.
func (h *Handler) Resume(c *eventloop.Conn) { h.rest(c) }

// ResumeReading continues with a partly read request, in phase InHead or InBody. It returns an error
// if this configuration would not have accepted what has come.
func (h *Handler) ResumeReading(c *eventloop.Conn, st State) error {
	if st.Phase == InHead { // it lies in the loop's input and is searched again
		h.attach(c).blank = st.Blank
		c.SetTimeout(h.header)
		return nil
	}
	if err := h.parseAgain(st.Head); err != nil {
		return err
	}
	r := &h.req
	if r.Chunked != (st.Left < 0) || r.Length > h.conf.Limits.Body || st.Body.Total > h.conf.Limits.Body {
		return errLimits
	}
	if route, status := h.site.Find(r); status != 0 || route.ReadsBody() {
		return errors.New("the new configuration passes on a request whose body has gone")
	}
	s := h.attach(c)
	s.phase, s.head, s.length, s.body = InBody, append(s.head[:0], st.Head...), st.Left, st.Body
	h.chargeAll(s)
	c.SetTimeout(h.body)
	return nil
}

var errLimits = errors.New("the new limits are too low for a request that is under way")

// parseAgain parses a head that another process has kept.
func (h *Handler) parseAgain(head []byte) error {
	h.current = nil
	if n, status := ParseRequest(head, 0, h.conf.Limits, &h.req, &h.scratch); status != 0 || n == 0 || n != len(head) {
		return errLimits
	}
	return nil
}

// ResumeAnswer continues an answer. make returns the responder for the stream; it is given the request and
// its route in this process; the route is nil if the head wasn't kept.
func (h *Handler) ResumeAnswer(c *eventloop.Conn, st State, make func(*Stream, *message.Request, stream.Route) (stream.Responder, error)) error {
	var route stream.Route
	h.req = message.Request{Minor: 1, KeepAlive: true}
	if len(st.Head) > 0 {
		if err := h.parseAgain(st.Head); err != nil {
			return err
		}
		if route, _ = h.site.Find(&h.req); route == nil {
			return errors.New("the new configuration refuses a request that is under way")
		}
	}
	s := h.room()
	s.start(h, c, st.Last)
	s.phase, s.head, s.body = Answering, append(s.head[:0], st.Head...), st.Body
	s.read, s.begun, s.chunked, s.bare, s.coding, s.closing = st.Read, st.Begun, st.Chunked, st.Bare, st.Coding, st.Closing
	s.status, s.content, s.logged, s.switched = st.Status, st.Content, st.Logged, st.Switched
	s.wants, s.length = h.req.Chunked || c.Partner() == nil, st.Left
	if h.req.Chunked {
		s.length = -1
	}
	r, err := make(s, &h.req, route)
	h.current = nil
	if err != nil {
		h.freeStream(s)
		return err
	}
	c.State, s.responder = s, r
	h.chargeAll(s)
	switch {
	case route == nil || !route.ReadsBody() || s.switched:
	case s.read:
		c.Hold()
	default:
		c.Duplex(s.wants)
		if c.Partner() == nil {
			c.SetTimeout(h.body)
		}
	}
	return nil
}
