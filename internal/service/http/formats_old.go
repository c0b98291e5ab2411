package http

import (
	"math"

	"reuseportd/internal/eventloop"
	"reuseportd/internal/pack"
	"reuseportd/internal/service/http/h1"
	"reuseportd/internal/service/http/message"
	"reuseportd/internal/service/http/proxy"
	"reuseportd/internal/service/http/stream"
)

// The forms that are older than the seam between framings and responders: in them both are mixed.

// reading is http.1 without the parts of an answer, which follow it.
type reading struct {
	phase   int // a phase of h1
	blank   bool
	head    []byte
	left    int64
	body    h1.Chunks
	closing bool
}

func readingOf(s *h1.Stream) *reading {
	st := s.State()
	return &reading{int(st.Phase), st.Blank, st.Head, st.Left, st.Body, st.Closing}
}

func (p *reading) record(r *pack.Record) {
	r.Int(&p.phase, int(h1.Answering))
	switch h1.Phase(p.phase) {
	case h1.InHead:
		r.Bool(&p.blank)
	case h1.InBody:
		r.Bytes(&p.head)
		plusOne(r, &p.left)
		p.body.Record(r)
	case h1.Answering:
		r.Bool(&p.closing)
	}
}

// plusOne writes or reads a number from -1 on, plus one.
func plusOne(r *pack.Record, v *int64) {
	n := *v + 1
	r.Int64(&n, math.MaxInt64)
	*v = n - 1
}

func (v *service) thawReading(c *eventloop.Conn, b []byte, fds []int) error {
	if len(b) == 0 && len(fds) == 0 {
		v.Resume(c)
		return nil
	}
	r := pack.Reading(b)
	var p reading
	switch p.record(r); {
	case r.Err() != nil:
		return errState
	case h1.Phase(p.phase) == h1.Answering:
		st := h1.State{Phase: h1.Answering, Read: true, Begun: true, Logged: true, Closing: p.closing}
		return v.thawElement(c, st, stream.KindParts, r.Rest(), fds)
	case r.End() != nil || len(fds) > 0:
		return errState
	}
	return v.ResumeReading(c, h1.State{Phase: h1.Phase(p.phase), Blank: p.blank, Head: p.head, Left: p.left, Body: p.body})
}

// exchange is http-exchange.1: a stream, its relay and the relay's call.
type exchange struct {
	raw     []byte // the request's head, then its body if it came whole
	head    int    // bytes of raw
	state   h1.State
	relay   proxy.State
	call    h1.CallState
	answer  int // 1 if the client has been sent a head
	framing int // of the server's response
}

func exchangeOf(s *h1.Stream, x *proxy.Relay) *exchange {
	e := &exchange{state: s.State()}
	relay, call := x.State()
	e.relay, e.call = relay, call.(*h1.Call).CallState
	e.raw = append(append([]byte(nil), e.state.Head...), relay.Body...)
	e.head, e.framing = len(e.state.Head), int(e.call.Framing)
	if e.call.Content {
		e.answer = 1
	}
	return e
}

func (e *exchange) record(r *pack.Record) {
	r.Bytes(&e.raw)
	r.Int(&e.head, math.MaxInt)
	r.Bool(&e.state.Read)
	r.Bool(&e.relay.Whole)
	r.Bool(&e.state.Last)
	r.Bool(&e.relay.Used)
	r.Int(&e.relay.Failed, math.MaxInt)
	r.Bool(&e.call.Begun)
	r.Int(&e.call.Scan, h1.MaxResponseHead)
	r.Int(&e.answer, 1)
	r.Int(&e.state.Status, 999)
	r.Int(&e.framing, int(h1.ToClose))
	r.Bool(&e.state.Bare)
	r.Bool(&e.call.Reuse)
	r.Bool(&e.state.Closing)
	plusOne(r, &e.call.Left)
	r.Int64(&e.state.Content, math.MaxInt64)
	e.state.Body.Record(r)
	r.Bool(&e.call.Coding.Last)
	e.call.Body.Record(r)
	r.Bool(&e.state.Coding.Last)
}

// thawExchange continues an exchange on a connection and its partner, which has been thawed before. It
// returns an error, and the exchange stays where it was, unless the request's route still leads to the same
// upstream and that still has the server.
func (v *service) thawExchange(c *eventloop.Conn, b []byte, fds []int) error {
	var e exchange
	r := pack.Reading(b)
	if e.record(r); r.End() != nil || e.head == 0 || e.head > len(e.raw) || len(fds) > 0 {
		return errState
	}
	e.state.Phase, e.state.Head, e.relay.Body = h1.Answering, e.raw[:e.head], e.raw[e.head:]
	answered := e.answer == 1
	e.state.Begun, e.relay.Answered, e.call.Content, e.call.Framing = answered, answered, answered, h1.Framing(e.framing)
	e.state.Chunked = answered && e.call.Framing >= h1.ByChunks && !e.state.Bare
	return v.ResumeAnswer(c, e.state, func(s *h1.Stream, r *message.Request, route stream.Route) (stream.Responder, error) {
		to, ok := route.(*proxy.Route)
		if !ok {
			return nil, errElsewhere
		}
		return to.Resume(s, r, c.Partner(), e.relay, func(call stream.Call) error { return call.(*h1.Call).Resume(r, e.call) })
	})
}
