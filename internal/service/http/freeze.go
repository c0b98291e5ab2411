package http

import (
	"errors"

	"reuseportd/internal/eventloop"
	"reuseportd/internal/pack"
	"reuseportd/internal/service/http/h1"
)

// kind names the form in which a connection is frozen.
const kind = "http.1"

// Kind implements eventloop.Mover. It changes with what Freeze writes.
func (h *Handler) Kind(c *eventloop.Conn) string {
	if st, ok := c.State.(*state); ok && st.phase == inExchange {
		return st.x.kind()
	}
	return kind
}

// Freeze implements eventloop.Mover. A connection between two requests has
// nothing to write down. Of an incomplete head nothing but its first byte's time
// matters: it lies in the loop's input and is searched again.
func (h *Handler) Freeze(c *eventloop.Conn, b []byte) (out []byte, fds []int) {
	st, ok := c.State.(*state)
	if !ok {
		return b, nil
	}
	if st.phase == inExchange {
		return st.x.freeze(b), nil
	}
	b = pack.Uint(b, uint64(st.phase))
	switch st.phase {
	case inHead:
		b = pack.Uint(b, flag(st.blank))
	case inBody:
		b = pack.Bytes(b, st.head)
		b = pack.Uint(b, uint64(st.length+1))
		b = pack.Uint(b, uint64(st.body.Step))
		b = pack.Uint(b, uint64(st.body.Left))
		b = pack.Uint(b, uint64(st.body.Total))
		b = pack.Uint(b, uint64(st.body.Lines))
	case inParts:
		b = pack.Uint(b, flag(st.closing))
		b = pack.Bytes(b, st.tail)
		b = pack.Uint(b, uint64(len(st.parts)))
		for _, p := range st.parts {
			b = pack.Bytes(b, p.head)
			b = pack.Uint(b, uint64(p.off))
			b = pack.Uint(b, uint64(p.n))
		}
		fds = []int{st.fd}
	}
	return b, fds
}

func flag(set bool) uint64 {
	if set {
		return 1
	}
	return 0
}

var errState = errors.New("the state of an HTTP connection is not understood")

// Thaw implements eventloop.Mover.
func (h *Handler) Thaw(c *eventloop.Conn, k string, b []byte, fds []int) error {
	switch k {
	case kind:
	case kindTunnel:
		return h.thawTunnel(c, b, fds)
	case kindExchange:
		return h.thawExchange(c, b, fds)
	default:
		return errState
	}
	if len(b) == 0 {
		h.rest(c)
		return wantFiles(fds, 0)
	}
	r := pack.NewReader(b)
	st := h.state(c)
	st.phase = phase(r.Int(int(inParts)))
	var err error
	files := 0
	switch st.phase {
	case inHead:
		st.blank = r.Uint() == 1
		c.SetTimeout(h.header)
	case inBody:
		err = h.thawBody(st, r)
		h.chargeHeads(st)
		c.SetTimeout(h.body)
	case inParts:
		err, files = st.thawParts(r), 1
	}
	if err == nil && r.End() != nil {
		err = errState
	}
	if err == nil {
		err = wantFiles(fds, files)
	}
	if err != nil {
		h.release(c)
		return err
	}
	if st.phase == inParts {
		st.fd = fds[0]
		h.loop.CountFiles(1)
	}
	return nil
}

// thawBody takes a kept head on if this configuration accepts it as well.
func (h *Handler) thawBody(st *state, r *pack.Reader) error {
	st.head = append(st.head[:0], r.Bytes()...)
	st.length = int64(r.Uint()) - 1
	st.body = h1.Chunks{
		Step: h1.ChunkStep(r.Int(int(h1.Done))), Left: int64(r.Uint()), Total: int64(r.Uint()),
		Lines: r.Int(1 << 30),
	}
	if r.Err() != nil || st.length < -1 || st.body.Left < 0 || st.body.Total < 0 {
		return errState
	}
	n, status := h1.ParseRequest(st.head, 0, h.site.limit, &h.req, &h.scratch)
	if status != 0 || n == 0 || n != len(st.head) || h.req.Chunked != (st.length < 0) ||
		h.req.Length > h.site.limit.Body || st.body.Total > h.site.limit.Body {
		return errors.New("the new limits are too low for a request that is under way")
	}
	if route := h.site.find(&h.req); route != nil && route.proxy != nil {
		return errors.New("the new configuration passes on a request whose body has gone")
	}
	return nil
}

// wantFiles refuses descriptors that nobody would close.
func wantFiles(fds []int, n int) error {
	if len(fds) != n {
		return errState
	}
	return nil
}

func (st *state) thawParts(r *pack.Reader) error {
	st.closing = r.Uint() == 1
	st.tail = append([]byte(nil), r.Bytes()...)
	for range r.Int(maxRanges) {
		p := part{head: append([]byte(nil), r.Bytes()...), off: int64(r.Uint()), n: int64(r.Uint())}
		if p.off < 0 || p.n <= 0 {
			return errState
		}
		st.parts = append(st.parts, p)
	}
	return nil
}
