package http

import (
	"errors"
	"time"

	"reuseportd/internal/eventloop"
	"reuseportd/internal/pack"
)

const (
	// kindTunnel is a client's side of a tunnel.
	kindTunnel = "http-tunnel.1"
	// kindEnd is a connection to a server: an idle one, or a tunnel's other side.
	kindEnd = "http-upstream.1"
)

// longTunnel is the class of a tunnel's deadline that came from another process, which
// said how much of it is left.
const longTunnel = 10_000 * time.Hour

// freezeTunnel writes down whether a tunnel has a deadline. All else is the loop's.
func (x *exchange) freezeTunnel(b []byte) []byte {
	return pack.Uint(b, flag(x.to.total != 0))
}

// thawTunnel makes a tunnel of a client's connection and its partner, which was thawed
// before it.
func (h *Handler) thawTunnel(c *eventloop.Conn, b []byte, fds []int) error {
	r := pack.NewReader(b)
	deadline := r.Int(1) == 1
	u := c.Partner()
	if r.End() != nil || u == nil {
		return errState
	}
	if err := wantFiles(fds, 0); err != nil {
		return err
	}
	l, ok := u.State.(*link)
	if !ok {
		return errState
	}
	to := &passage{pool: l.pool}
	if c.SetTimeout(0); deadline {
		to.total = h.loop.Class(longTunnel)
		c.SetDeadline(to.total)
	}
	x := &exchange{h: h, to: to, pool: l.pool, client: c, link: l, server: l.server, phase: inTunnel, sent: true, status: 101}
	l.x, l.adopted = x, false
	u.SetTimeout(h.quiet)
	st := h.state(c)
	st.phase, st.x = inExchange, x
	return nil
}

// Kind implements eventloop.Mover.
func (e *ends) Kind(*eventloop.Conn) string { return kindEnd }

// Freeze writes down whose connection it is, and whether it is idle. An idle one isn't to be
// taken for a request any more.
func (e *ends) Freeze(c *eventloop.Conn, b []byte) (out []byte, fds []int) {
	l := c.State.(*link)
	upstream, server := "", ""
	if l.pool != nil {
		upstream = l.pool.conf.Name
		l.pool.unshelve(l)
	}
	if l.server != nil {
		server = l.server.Name()
	}
	b = pack.String(b, upstream)
	b = pack.String(b, server)
	return pack.Uint(b, flag(l.x != nil)), nil
}

// Thaw takes on a connection to a server. An idle one is of use only if the server is one
// of the upstream's still; a tunnel goes on wherever it leads.
func (e *ends) Thaw(c *eventloop.Conn, kind string, b []byte, fds []int) error {
	r := pack.NewReader(b)
	pool, server, busy := e.pools[string(r.Bytes())], string(r.Bytes()), r.Int(1) == 1
	switch {
	case kind != kindEnd, r.End() != nil, wantFiles(fds, 0) != nil, busy != (c.Partner() != nil):
		return errState
	}
	if !busy {
		return pool.thaw(c, server)
	}
	if pool == nil {
		c.State = &link{conn: c} // the upstream is gone, and its counters with it
		return nil
	}
	pool.svc.Adopt(c) // it may be kept for further requests, and is then handed over by the upstream's name
	l := pool.link(pool.chooser.Adopt(server), c)
	l.adopted = l.server != nil
	c.SetTimeout(0)
	return nil
}

// thaw puts an idle connection that comes from another process on its shelf.
func (p *Pool) thaw(c *eventloop.Conn, server string) error {
	if p == nil {
		return errState
	}
	s := p.chooser.Find(server)
	switch {
	case s == nil:
		return errors.New("the upstream has no server " + server + " any more")
	case p.kept >= p.conf.IdleConnections || c.Leaving():
		return errors.New("enough idle connections are kept")
	}
	p.put(p.link(s, c))
	return nil
}
