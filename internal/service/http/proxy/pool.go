package proxy

import (
	"strings"
	"time"

	"reuseportd/internal/config"
	"reuseportd/internal/eventloop"
	"reuseportd/internal/service/failure"
	"reuseportd/internal/service/http/stream"
	"reuseportd/internal/upstream"
)

// sendTimeout is how long a server may read nothing of what is sent to it.
const sendTimeout = 60 * time.Second

// Pool has one event loop's connections to the servers of an upstream. All listeners of
// the loop share a pool.
type Pool struct {
	loop    *eventloop.Loop
	svc     *eventloop.Service
	conf    *config.Upstream
	chooser *upstream.Chooser
	teller  *failure.Teller

	newCall       func() stream.Call
	hashHeader    string // lower case
	connect, idle eventloop.Class

	shelves map[*upstream.Server]*shelf
	kept    int     // idle connections on all shelves
	free    []*link // links to be reused
}

// shelf has the idle connections to one server, the one used last on top.
type shelf struct{ top *link }

// link is one connection to a server. While it is idle it is on a shelf; otherwise it
// belongs to a relay or a tunnel.
type link struct {
	pool      *Pool
	server    *upstream.Server // nil if it came from another process and is no longer configured
	conn      *eventloop.Conn
	user      user        // the relay or tunnel that uses it; nil while it is idle
	used      bool        // an earlier request was answered on it
	untrusted string      // why there is no TLS with the server
	call      stream.Call // kept for reuse with the link
	// adopted says that the connection came from another process in use: the server counts
	// it, but no relay has it yet.
	adopted bool

	shelf       *shelf // nil unless it is idle
	above, next *link  // on the shelf
}

// NewPool makes the pool of a chooser's upstream for its loop. tell is called by the loop
// for each failure, and must not block. newCall makes a call, in the framing that servers
// are spoken to.
func NewPool(l *eventloop.Loop, c *upstream.Chooser, tell func(failure.Failure), newCall func() stream.Call) *Pool {
	conf := c.Conf()
	p := &Pool{
		loop: l, conf: conf, chooser: c, teller: failure.New(tell), newCall: newCall, hashHeader: strings.ToLower(conf.HashHeader),
		connect: l.Class(conf.ConnectTimeout), idle: l.SpareClass(conf.IdleTimeout, 0),
		shelves: make(map[*upstream.Server]*shelf),
	}
	p.svc = l.NewService(&ends{pools: map[string]*Pool{conf.Name: p}}, sendTimeout)
	p.svc.SetNoDelay(true)
	return p
}

// Service returns the event loop's service for the pool's connections. Those that come
// from another process under the upstream's name arrive there.
func (p *Pool) Service() *eventloop.Service { return p.svc }

// ServerName returns what a connection's server is called, for its certificate.
func (p *Pool) ServerName(c *eventloop.Conn) string {
	if l, ok := c.State.(*link); ok && l.server != nil {
		return l.server.TLSName()
	}
	return ""
}

// Untrusted notes why a connection that is being made has no TLS. It ends next.
func (p *Pool) Untrusted(c *eventloop.Conn, why error) {
	if l, ok := c.State.(*link); ok {
		l.untrusted = why.Error()
	}
}

// sealed reports whether a connection is as the configuration wants it: one that came from another process may not
// be.
func (p *Pool) sealed(c *eventloop.Conn) bool { return (c.Sealed() != nil) == (p.conf.TLS != nil) }

// take returns the idle connection to a server that was used last, nil if there is none.
// If alive is set it skips those that are known to be closed by the server.
func (p *Pool) take(s *upstream.Server, alive bool) *link {
	sh := p.shelves[s]
	if sh == nil {
		return nil
	}
	for sh.top != nil {
		l := sh.top
		p.unshelve(l)
		if !alive || l.conn.Silent() {
			return l
		}
		l.conn.Close()
	}
	return nil
}

// put keeps a connection for a later request, or closes it if enough are kept.
func (p *Pool) put(l *link) {
	if p.kept >= p.conf.IdleConnections || l.server == nil || l.conn.Leaving() || !p.sealed(l.conn) {
		l.conn.Close()
		return
	}
	sh := p.shelves[l.server]
	if sh == nil {
		p.clear()
		sh = new(shelf)
		p.shelves[l.server] = sh
	}
	l.used, l.shelf = true, sh
	if l.next = sh.top; l.next != nil {
		l.next.above = l
	}
	sh.top = l
	p.kept++
	l.conn.SetTimeout(p.idle)
}

// maxShelves is how many shelves there may be before empty ones are removed.
const maxShelves = 512

// clear removes empty shelves: a name may lead to ever new addresses.
func (p *Pool) clear() {
	if len(p.shelves) < maxShelves {
		return
	}
	for s, sh := range p.shelves {
		if sh.top == nil {
			delete(p.shelves, s)
		}
	}
}

// unshelve takes a connection off its shelf.
func (p *Pool) unshelve(l *link) {
	if l.shelf == nil {
		return
	}
	if l.above != nil {
		l.above.next = l.next
	} else {
		l.shelf.top = l.next
	}
	if l.next != nil {
		l.next.above = l.above
	}
	l.shelf, l.above, l.next = nil, nil, nil
	p.kept--
}

// link returns a link for a connection, a reused one if there is one.
func (p *Pool) link(s *upstream.Server, c *eventloop.Conn) *link {
	var l *link
	if n := len(p.free); n > 0 {
		l, p.free = p.free[n-1], p.free[:n-1]
	} else {
		l = &link{call: p.newCall()}
	}
	*l = link{pool: p, server: s, conn: c, call: l.call}
	c.State = l
	return l
}

// free keeps the link of a closed connection for reuse.
func (l *link) free() {
	p := l.pool
	if p == nil {
		return
	}
	if l.adopted {
		p.chooser.Done(l.server)
	}
	p.unshelve(l)
	*l = link{call: l.call}
	if len(p.free) < maxFree {
		p.free = append(p.free, l)
	}
}

// maxFree bounds what is kept for reuse, of each kind.
const maxFree = 256
