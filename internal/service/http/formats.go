package http

import (
	"errors"
	"fmt"

	"reuseportd/internal/eventloop"
	"reuseportd/internal/pack"
	"reuseportd/internal/service/http/files"
	"reuseportd/internal/service/http/h1"
	"reuseportd/internal/service/http/message"
	"reuseportd/internal/service/http/proxy"
	"reuseportd/internal/service/http/stream"
)

// A connection goes to another process in one of these forms. A form never changes, and later releases read
// it for ever; each has a golden file in testdata. A connection is written in the oldest form that can
// express it, so that an older release can take it. formChain can express every answer.
const (
	formReading = "http.1"          // no request, a part of one, or an answer in several parts
	formRelay   = "http-exchange.1" // a request that is being relayed to a server
	formTunnel  = "http-tunnel.1"
	formChain   = "http.2" // a stream, and the elements of its answer under their numbers
)

var errState = fmt.Errorf("the state of an HTTP connection is not understood: %w", pack.ErrMalformed)

// thaw makes an element of an answer from what another process has written. route is nil if the
// stream's head wasn't kept.
type thaw func(v *service, s *h1.Stream, c *eventloop.Conn, r *message.Request, route stream.Route, b []byte, fds []int) (stream.Responder, error)

// thaws are the elements that this release knows.
var thaws = map[stream.Kind]thaw{
	stream.KindParts:  thawParts,
	stream.KindRelay:  thawRelay,
	stream.KindTunnel: thawTunnel,
}

func thawParts(_ *service, s *h1.Stream, c *eventloop.Conn, _ *message.Request, _ stream.Route, b []byte, fds []int) (stream.Responder, error) {
	return files.ThawParts(c.Loop(), s, b, fds)
}

func thawRelay(_ *service, s *h1.Stream, c *eventloop.Conn, r *message.Request, route stream.Route, b []byte, fds []int) (stream.Responder, error) {
	to, ok := route.(*proxy.Route)
	switch {
	case len(fds) > 0:
		return nil, errState // nobody would close them
	case !ok:
		return nil, errElsewhere
	}
	return to.Thaw(s, r, c.Partner(), b)
}

var errElsewhere = errors.New("the route of an exchange leads elsewhere now")

func thawTunnel(v *service, s *h1.Stream, c *eventloop.Conn, _ *message.Request, _ stream.Route, b []byte, fds []int) (stream.Responder, error) {
	if len(fds) > 0 {
		return nil, errState
	}
	return hub(v.bound).ThawTunnel(s, c, b)
}

// Kind implements eventloop.Mover.
func (v *service) Kind(c *eventloop.Conn) string {
	s := v.Stream(c)
	if s == nil {
		return formReading
	}
	switch s.Responder().(type) {
	case nil, *files.Parts:
		return formReading
	case *proxy.Relay:
		return formRelay
	case *proxy.Tunnel:
		return formTunnel
	}
	return formChain
}

// Freeze implements eventloop.Mover. A connection between two requests has nothing to write down. Of an
// incomplete head only the time of its first byte matters: the head lies in the loop's input and is
// searched again.
func (v *service) Freeze(c *eventloop.Conn, b []byte) (out []byte, fds []int) {
	s := v.Stream(c)
	if s == nil {
		return b, nil
	}
	r := pack.Writing(b)
	switch responder := s.Responder().(type) {
	case nil:
		readingOf(s).record(r)
		return r.Written(), nil
	case *files.Parts:
		readingOf(s).record(r)
		_, out, fds = responder.Freeze(r.Written())
		return out, fds
	case *proxy.Relay:
		exchangeOf(s, responder).record(r)
		return r.Written(), nil
	case *proxy.Tunnel:
		_, out, fds = responder.Freeze(b)
		return out, fds
	}
	return freezeChain(s, b)
}

// Thaw implements eventloop.Mover.
func (v *service) Thaw(c *eventloop.Conn, form string, b []byte, fds []int) error {
	switch form {
	case formReading:
		return v.thawReading(c, b, fds)
	case formRelay:
		return v.thawExchange(c, b, fds)
	case formTunnel:
		st := h1.State{Phase: h1.Answering, Read: true, Begun: true, Logged: true, Switched: true, Status: 101}
		return v.thawElement(c, st, stream.KindTunnel, b, fds)
	case formChain:
		return v.thawChain(c, b, fds)
	}
	return errState
}

// element is one element of a chain, in written form.
type element struct {
	kind  int
	state []byte
}

func (e *element) record(r *pack.Record) {
	r.Int(&e.kind, 1<<16-1)
	r.Bytes(&e.state)
}

// freezeChain writes formChain: a stream, the number of elements of its answer, and the elements, the
// responder last. A release that finds more elements than it supports refuses the connection.
func freezeChain(s *h1.Stream, b []byte) (out []byte, fds []int) {
	kind, state, fds := s.Responder().Freeze(nil)
	r, st, n, e := pack.Writing(b), s.State(), 1, element{int(kind), state}
	st.Record(r)
	r.Int(&n, 1)
	e.record(r)
	return r.Written(), fds
}

func (v *service) thawChain(c *eventloop.Conn, b []byte, fds []int) error {
	var st h1.State
	var n int
	var e element
	r := pack.Reading(b)
	st.Record(r)
	r.Int(&n, 1)
	if e.record(r); r.End() != nil || n != 1 {
		return errState
	}
	return v.thawElement(c, st, stream.Kind(e.kind), e.state, fds)
}

// thawElement continues a stream whose answer has one element.
func (v *service) thawElement(c *eventloop.Conn, st h1.State, kind stream.Kind, b []byte, fds []int) error {
	thaw, known := thaws[kind]
	if !known {
		return fmt.Errorf("the connection's answer is of kind %d, which this release doesn't know", kind)
	}
	return v.ResumeAnswer(c, st, func(s *h1.Stream, r *message.Request, route stream.Route) (stream.Responder, error) {
		return thaw(v, s, c, r, route, b, fds)
	})
}
