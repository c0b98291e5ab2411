package proxy

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"reuseportd/internal/eventloop"
	"reuseportd/internal/pack"
)

// user is what uses a connection to a server: a relay or a tunnel.
type user interface {
	connected()
	received(in []byte) int
	passed() // all that Pass was asked for has been passed
	ended()
	timedOut()
	closed(cause unix.Errno) // the loop has closed the connection
}

// NewService makes the service for connections to servers that come from another process together with
// a client's. pools has the upstreams' pools by name.
func NewService(l *eventloop.Loop, pools map[string]*Pool) *eventloop.Service {
	return l.NewService(&ends{pools: pools}, sendTimeout)
}

// ends handles the events of connections to servers. A connection's user decides; an idle one is
// closed, whatever the event.
type ends struct {
	pools map[string]*Pool // for connections from another process
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

// Received reads a response. An idle connection on which the server sends something can't
// be used again: those bytes would be taken for the answer to the next request.
func (e *ends) Received(c *eventloop.Conn, in []byte) int {
	l := c.State.(*link)
	if l.user == nil {
		c.Close()
		return len(in)
	}
	return l.user.received(in)
}

// Passed is called when the loop has passed on all of a response's content. Bytes after it
// have not been read; the connection's next user would take them for the answer.
func (e *ends) Passed(c *eventloop.Conn) {
	if u := c.State.(*link).user; u != nil {
		u.passed()
	}
}

// Flushed has nothing to do, since messages are queued whole.
func (e *ends) Flushed(*eventloop.Conn) {}

// Ended is called when the server has shut down its side: the end of a response that
// lasts until then, of one side of a tunnel, or of an idle connection.
func (e *ends) Ended(c *eventloop.Conn) {
	if u := c.State.(*link).user; u != nil {
		u.ended()
	} else {
		c.Close()
	}
}

// TimedOut tells the connection's user, or closes an idle connection.
func (e *ends) TimedOut(c *eventloop.Conn) {
	if u := c.State.(*link).user; u != nil {
		u.timedOut()
	} else {
		c.Close()
	}
}

// Closed tells the connection's user.
func (e *ends) Closed(c *eventloop.Conn) {
	l := c.State.(*link)
	if l.user != nil {
		l.user.closed(c.Loop().Cause())
	}
	l.free()
}

// kindServer is the form in which a connection to a server is frozen, idle or in use.
const kindServer = "http-upstream.1"

var errState = fmt.Errorf("the state of a connection to a server is not understood: %w", pack.ErrMalformed)

// Kind implements eventloop.Mover.
func (e *ends) Kind(*eventloop.Conn) string { return kindServer }

// use is what http-upstream.1 holds: the connection's upstream and server, and whether it
// is in use.
type use struct {
	upstream, server []byte
	busy             bool
}

func (u *use) record(r *pack.Record) {
	r.Bytes(&u.upstream)
	r.Bytes(&u.server)
	r.Bool(&u.busy)
}

// Freeze implements eventloop.Mover. It takes an idle connection off its shelf, so that no
// request gets it.
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

// Thaw implements eventloop.Mover. An idle connection is kept only if the upstream still has the server; a
// tunnel continues in any case.
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
	pool.svc.Adopt(c) // when it is idle it is handed over under the upstream's name
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
	case !p.sealed(c):
		return errors.New("the upstream is spoken to in another way by now")
	case p.kept >= p.conf.IdleConnections || c.Leaving():
		return errors.New("enough idle connections are kept")
	}
	p.put(p.link(s, c))
	return nil
}
