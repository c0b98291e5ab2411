package tcp

import (
	"errors"

	"reuseportd/internal/eventloop"
	"reuseportd/internal/pack"
)

// The kinds change with what Freeze writes.
const (
	clientKind = "tcp.1"
	serverKind = "tcp-upstream.1"
	namedKind  = "tcp-upstream.2" // for another upstream than the listener's own: its name follows the server's
)

var errState = errors.New("the state of a TCP pair is not understood")

// Kind implements eventloop.Mover.
func (h *Handler) Kind(*eventloop.Conn) string { return clientKind }

// Freeze implements eventloop.Mover. A connection is busy while a server is sought, so
// nothing of that has to be written.
func (h *Handler) Freeze(c *eventloop.Conn, b []byte) ([]byte, []int) {
	st := sessionOf(c)
	quiet, kept := st.quiet, uint64(0)
	if st.phase != cutting && st.movement() != st.moved {
		quiet = 0 // the next loop can't compare with what has moved here
	}
	if st.kept {
		kept = 1
	}
	b = pack.Uint(b, uint64(st.phase))
	b = pack.Uint(b, uint64(quiet))
	return pack.Uint(b, kept), nil
}

// Thaw implements eventloop.Mover. The other end has been thawed before.
func (h *Handler) Thaw(c *eventloop.Conn, kind string, b []byte, fds []int) error {
	r := pack.NewReader(b)
	ph, quiet, kept := phase(r.Int(int(inHelloAsked))), r.Int(patience), r.Int(1) != 0
	if kind != clientKind || r.End() != nil || len(fds) > 0 {
		return errState
	}
	var st *session
	switch p := c.Partner(); {
	case p != nil && (ph == passing || ph == over):
		st = sessionOf(p)
	case p == nil && (ph == inHeader || ph == cutting || ph == over):
		st = h.session()
	case p == nil && (ph == inHello || ph == inHelloAsked):
		st = h.session()
	default:
		return errState
	}
	st.client, st.phase, st.quiet, st.kept = c, ph, uint8(quiet), kept
	c.State = st
	switch st.moved = st.movement(); ph {
	case inHeader, inHello, inHelloAsked:
		c.SetDeadline(h.header)
	case passing:
		if kept {
			c.SetDeadline(h.idle)
		} else {
			c.SetDeadline(h.first)
		}
	case cutting:
		c.Hold()
		c.SetDeadline(h.patience)
	case over:
		c.SetDeadline(h.last)
	}
	return nil
}

// Kind implements eventloop.Mover.
func (e *serverEnd) Kind(c *eventloop.Conn) string {
	if up := sessionOf(c).up; up != nil && up != e.targets.own {
		return namedKind
	}
	return serverKind
}

// Freeze implements eventloop.Mover. It writes which server it is.
func (e *serverEnd) Freeze(c *eventloop.Conn, b []byte) ([]byte, []int) {
	st := sessionOf(c)
	b = pack.String(b, st.name())
	if e.Kind(c) == namedKind {
		b = pack.String(b, st.up.conf.Name)
	}
	return b, nil
}

// Thaw implements eventloop.Mover. A server that is no longer configured keeps its
// connections.
func (e *serverEnd) Thaw(c *eventloop.Conn, kind string, b []byte, fds []int) error {
	h := e.handler()
	r := pack.NewReader(b)
	name := r.Bytes()
	up := h.targets.own
	if kind == namedKind {
		up = h.targets.of(string(r.Bytes()))
	}
	p := c.Partner()
	if kind != serverKind && kind != namedKind || r.End() != nil || len(fds) > 0 || p == nil {
		return errState
	}
	st := h.session()
	st.server, st.phase, st.up = c, over, up
	if up != nil {
		st.to = up.chooser.Adopt(string(name))
	}
	st.fromClient, st.fromServer = p.Passed(), c.Passed()
	c.State = st
	c.SetDeadline(h.total)
	return nil
}
