package proxy

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"reuseportd/internal/eventloop"
	"reuseportd/internal/pack"
)

// user is what a connection to a server is in use for: a relay or a tunnel.
type user interface {
	connected()
	received(in []byte) int
	passed() // the last of what Pass was told of
	ended()
	timedOut()
	closed(cause unix.Errno) // by the loop
}

// NewService makes the service of those connections to servers that come from another process together
// with a client's. The pools are those of the upstreams, by name.
func NewService(l *eventloop.Loop, pools map[string]*Pool) *eventloop.Service {
	return l.NewService(&ends{pools: pools}, sendTimeout)
}

// ends is what is done with connections to servers. Who uses one decides; one that is idle is closed,
// whatever comes.
type ends struct {
	pools map[string]*Pool // for those that come from another process
}

// Opened sends the request that the connection was made for.
func (e *ends) Opened(c *eventloop.Conn) {
	if l := c.State.(*link); l.user != nil {
		l.server.AddConnect()
		l.user.connected()
	} else {
		c.Close()
	}
}

// Received reads a response. A server that speaks unasked is not to be trusted with a
// request: what it has said would be taken for the answer.
func (e *ends) Received(c *eventloop.Conn, in []byte) int {
	l := c.State.(*link)
	if l.user == nil {
		c.Close()
		return len(in)
	}
	return l.user.received(in)
}

// Passed is called when all of a response's content has gone by. What lies behind it has not
// been read: whoever got the connection next would take it for the answer.
func (e *ends) Passed(c *eventloop.Conn) {
	if u := c.State.(*link).user; u != nil {
		u.passed()
	}
}

// Flushed has nothing to do: whole messages are queued.
func (e *ends) Flushed(*eventloop.Conn) {}

// Ended is the end of a response that has no other, of a tunnel's one side, or of a
// connection that is of no more use.
func (e *ends) Ended(c *eventloop.Conn) {
	if u := c.State.(*link).user; u != nil {
		u.ended()
	} else {
		c.Close()
	}
}

// TimedOut gives up waiting.
func (e *ends) TimedOut(c *eventloop.Conn) {
	if u := c.State.(*link).user; u != nil {
		u.timedOut()
	} else {
		c.Close()
	}
}

// Closed tells who uses the connection.
func (e *ends) Closed(c *eventloop.Conn) {
	l := c.State.(*link)
	if l.user != nil {
		l.user.closed(c.Loop().Cause())
	}
	l.drop()
}

// kindServer is the form in which a connection to a server is frozen: an idle one, or one in use.
const kindServer = "http-upstream.1"

var errState = fmt.Errorf("the state of a connection to a server is not understood: %w", pack.ErrMalformed)

// Kind implements eventloop.Mover.
func (e *ends) Kind(*eventloop.Conn) string { return kindServer }

// use is http-upstream.1: whose connection it is, and whether it is in use.
type use struct {
	upstream, server []byte
	busy             bool
}

func (u *use) record(r *pack.Record) {
	r.Bytes(&u.upstream)
	r.Bytes(&u.server)
	r.Bool(&u.busy)
}

// Freeze implements eventloop.Mover. An idle connection isn't to be taken for a request any more.
func (e *ends) Freeze(c *eventloop.Conn, b []byte) (out []byte, fds []int) {
	l := c.State.(*link)
	u := use{busy: l.user != nil}
	if l.pool != nil {
		u.upstream = []byte(l.pool.conf.Name)
		l.pool.unshelve(l)
	}
	if l.server != nil {
		u.server = []byte(l.server.Name())
	}
	r := pack.Writing(b)
	u.record(r)
	return r.Written(), nil
}

// Thaw implements eventloop.Mover. An idle connection is of use only if the server is one of the upstream's
// still; a tunnel goes on wherever it leads.
func (e *ends) Thaw(c *eventloop.Conn, kind string, b []byte, fds []int) error {
	var u use
	r := pack.Reading(b)
	if u.record(r); kind != kindServer || r.End() != nil || len(fds) > 0 || u.busy != (c.Partner() != nil) {
		return errState
	}
	pool, server := e.pools[string(u.upstream)], string(u.server)
	if !u.busy {
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
