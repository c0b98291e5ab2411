package http

import (
	"errors"
	"math"

	"reuseportd/internal/eventloop"
	"reuseportd/internal/pack"
	"reuseportd/internal/service/http/files"
	"reuseportd/internal/service/http/h1"
	"reuseportd/internal/service/http/message"
	"reuseportd/internal/service/http/proxy"
	"reuseportd/internal/service/http/stream"
)

// The forms in which connections go to another process. A form that a release has written is read for
// ever, and never changes; each has a golden file in testdata.
const (
	formReading = "http.1"          // no request, a part of one, or an answer in several parts
	formRelay   = "http-exchange.1" // a request that a server is to answer, and has a connection
	formTunnel  = "http-tunnel.1"
)

var errState = errors.New("the state of an HTTP connection is not understood")

// Kind implements eventloop.Mover.
func (v *service) Kind(c *eventloop.Conn) string {
	if s := v.Stream(c); s != nil {
		switch s.Responder().(type) {
		case *proxy.Relay:
			return formRelay
		case *proxy.Tunnel:
			return formTunnel
		}
	}
	return formReading
}

// Freeze implements eventloop.Mover. A connection between two requests has nothing to write down. Of an
// incomplete head nothing but its first byte's time matters: it lies in the loop's input and is searched
// again.
func (v *service) Freeze(c *eventloop.Conn, b []byte) (out []byte, fds []int) {
	s := v.Stream(c)
	if s == nil {
		return b, nil
	}
	r := pack.Writing(b)
	switch responder := s.Responder().(type) {
	case nil:
		readingOf(s).record(r)
	case *files.Parts:
		readingOf(s).record(r)
		responder.Record(r)
		fds = []int{responder.File()}
	case *proxy.Relay:
		exchangeOf(s, responder).record(r)
	case *proxy.Tunnel:
		deadline := responder.HasDeadline()
		r.Bool(&deadline)
	}
	return r.Written(), fds
}

// Thaw implements eventloop.Mover.
func (v *service) Thaw(c *eventloop.Conn, form string, b []byte, fds []int) error {
	switch form {
	case formReading:
		return v.thawReading(c, b, fds)
	case formRelay:
		if len(fds) > 0 {
			return errState // nobody would close them
		}
		return v.thawRelay(c, b)
	case formTunnel:
		if len(fds) > 0 {
			return errState
		}
		return v.thawTunnel(c, b)
	}
	return errState
}

// reading is http.1 but for the parts of an answer, which follow.
type reading struct {
	phase   int // of the phases of h1
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
		chunks(r, &p.body)
	case h1.Answering:
		r.Bool(&p.closing)
	}
}

// chunks is where in a chunked body a connection is.
func chunks(r *pack.Record, k *h1.Chunks) {
	step := int(k.Step)
	r.Int(&step, int(h1.Done))
	k.Step = h1.ChunkStep(step)
	r.Int64(&k.Left, math.MaxInt64)
	r.Int64(&k.Total, math.MaxInt64)
	r.Int(&k.Lines, 1<<30)
}

// plusOne is a number from -1 on.
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
	p.record(r)
	if h1.Phase(p.phase) == h1.Answering && r.Err() == nil {
		return v.thawParts(c, &p, r, fds)
	}
	if r.End() != nil || len(fds) > 0 {
		return errState
	}
	return v.ResumeReading(c, h1.State{Phase: h1.Phase(p.phase), Blank: p.blank, Head: p.head, Left: p.left, Body: p.body})
}

func (v *service) thawParts(c *eventloop.Conn, p *reading, r *pack.Record, fds []int) error {
	parts := new(files.Parts)
	parts.Record(r)
	if r.End() != nil || len(fds) != 1 {
		return errState
	}
	st := h1.State{Phase: h1.Answering, Read: true, Begun: true, Closing: p.closing}
	return v.ResumeAnswer(c, st, func(s *h1.Stream, _ *message.Request, _ stream.Route) (stream.Responder, error) {
		if !parts.Resume(c.Loop(), s, fds[0]) {
			return nil, errState
		}
		return parts, nil
	})
}

// exchange is http-exchange.1: a stream, its relay and the relay's call.
type exchange struct {
	raw     []byte // the request's head, then its body if that came whole
	head    int    // bytes of raw
	state   h1.State
	relay   proxy.State
	call    h1.CallState
	answer  int // whether a head has gone to the client
	framing int // of what the server sends
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
	chunks(r, &e.state.Body)
	r.Bool(&e.call.Coding.Last)
	chunks(r, &e.call.Body)
	r.Bool(&e.state.Coding.Last)
}

// thawRelay goes on with an exchange of a connection and its partner, which was thawed before it: if the
// request's route leads to the same upstream still, and that has the server. Else it ends where it was.
func (v *service) thawRelay(c *eventloop.Conn, b []byte) error {
	var e exchange
	r := pack.Reading(b)
	if e.record(r); r.End() != nil || e.head == 0 || e.head > len(e.raw) {
		return errState
	}
	e.state.Phase, e.state.Head, e.relay.Body = h1.Answering, e.raw[:e.head], e.raw[e.head:]
	answered := e.answer == 1
	e.state.Begun, e.relay.Answered, e.call.Content, e.call.Framing = answered, answered, answered, h1.Framing(e.framing)
	if e.call.Framing == h1.ByLength && e.call.Left < 0 {
		return errState
	}
	return v.ResumeAnswer(c, e.state, func(s *h1.Stream, r *message.Request, route stream.Route) (stream.Responder, error) {
		to, ok := route.(*proxy.Route)
		if !ok {
			return nil, errors.New("the route of an exchange leads elsewhere now")
		}
		x, call, err := to.Resume(s, r, c.Partner(), e.relay)
		if err != nil {
			return nil, err
		}
		call.(*h1.Call).Resume(r, e.call)
		if answered && e.call.Framing >= h1.ByChunks && !e.state.Bare {
			s.Chunks()
		}
		return x, nil
	})
}

// thawTunnel makes a tunnel of a client's connection and its partner, which was thawed before it.
func (v *service) thawTunnel(c *eventloop.Conn, b []byte) error {
	var deadline bool
	r := pack.Reading(b)
	if r.Bool(&deadline); r.End() != nil || c.Partner() == nil {
		return errState
	}
	st := h1.State{Phase: h1.Answering, Read: true, Status: 101}
	return v.ResumeAnswer(c, st, func(s *h1.Stream, _ *message.Request, _ stream.Route) (stream.Responder, error) {
		s.Switched()
		return hub(v.bound).Tunnel(s, c, c.Partner(), deadline)
	})
}
