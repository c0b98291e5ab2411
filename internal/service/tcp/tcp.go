// Package tcp passes bytes between clients and the servers of an upstream.
//
// It owns a pair of connections from the client's accept to the end of both: which
// servers were tried, what a PROXY protocol header or a TLS hello said, and the timeouts.
// The event loop passes the bytes (eventloop.Conn.Pass); they are never seen here. It
// must never let a pair that was cut look like one that has ended.
//
// How it works. A session is the state of both ends. Its client may first have to send a
// header (client.go) or a hello (hello.go), by which its upstream is chosen. One server
// after another is dialled (connect.go) until one is reached; from then on both
// directions are passed, and only their ends (end.go) and the clock (idle.go) matter.
// freeze.go writes a session for another process.
package tcp

import (
	"time"

	"reuseportd/internal/config"
	"reuseportd/internal/eventloop"
	"reuseportd/internal/service/failure"
	"reuseportd/internal/upstream"
)

// headerTime is how long a client may take to send what is needed before a server is chosen: its PROXY protocol
// header and its TLS hello.
const headerTime = 10 * time.Second

// Options are what a service needs.
type Options struct {
	Listener string // its name, as failures show it
	Conf     *config.TCP
	Choosers map[string]*upstream.Chooser // of the same loop, by the upstream's name
	Failed   func(failure.Failure)        // must not block; nil: failures aren't reported
	Secure   Secure                       // may be nil if no upstream has TLS
}

// Secure gives a service for connections to an upstream's servers its TLS. first appends what a server is sent in front of the
// handshake.
type Secure func(s *eventloop.Service, up *config.Upstream, first func(c *eventloop.Conn, raw []byte) []byte)

// Handler handles the clients' ends in one event loop.
type Handler struct {
	loop    *eventloop.Loop
	servers *eventloop.Service // of other ends that come from another process
	conf    *config.TCP
	targets targets

	listener string
	failed   *failure.Teller

	header, first, idle, last, total, patience eventloop.Class

	keepalive *eventloop.Keepalive // nil if it is off

	free    []*session
	scratch []byte
}

// ServerName returns what the server is called that a connection is made to, for its certificate.
func ServerName(c *eventloop.Conn) string {
	if st := sessionOf(c); st != nil && st.to != nil {
		return st.to.TLSName()
	}
	return ""
}

// Untrusted notes why a connection that is being made has no TLS. It ends next.
func Untrusted(c *eventloop.Conn, why error) {
	if st := sessionOf(c); st != nil {
		st.untrusted = why.Error()
	}
}

// proxyFirst appends what a server with TLS is sent in front of the handshake.
func (h *Handler) proxyFirst(c *eventloop.Conn, raw []byte) []byte {
	if st := sessionOf(c); st != nil && st.client != nil {
		return h.proxyHeader(st, raw)
	}
	return raw
}

// NewService makes the service of a loop, and the one for its connections to servers.
func NewService(l *eventloop.Loop, o Options) *eventloop.Service {
	h := &Handler{
		loop: l, conf: o.Conf,
		listener: o.Listener, failed: failure.New(o.Failed),
		header: l.Class(headerTime),
		idle:   l.Class(idleStep(o.Conf.IdleTimeout)), last: l.Class(idleStep(lastTime)),
		total: l.Class(o.Conf.TotalTimeout), patience: l.Class(patienceStep),
	}
	if h.idle != 0 {
		h.last = h.idle
	}
	h.first = h.idle
	if k := o.Conf.Keepalive; k != nil {
		h.keepalive = &eventloop.Keepalive{Idle: k.Idle, Interval: k.Interval, Count: k.Count}
		if step := idleStep(o.Conf.IdleTimeout); step == 0 || k.Idle < step {
			h.first = l.Class(k.Idle)
		}
	}
	// Neither has a write timeout: a pair is idle when neither direction moves.
	clients := l.NewService(h, 0)
	h.servers = l.NewService((*serverEnd)(h), 0)
	clients.SetUpstreams(h.servers)
	h.targets = newTargets(h, o.Choosers, o.Secure)
	return clients
}
