// Package tcp passes bytes between clients and the servers of an upstream.
//
// It owns what a pair of connections is between the client's accept and the end of
// both: which server was tried, what a PROXY protocol header said, when nothing has
// moved for too long. The bytes go by the loop (eventloop.Conn.Pass) and are never
// seen here. It must never let a pair that was cut look like one that has ended.
package tcp

import (
	"time"

	"reuseportd/internal/config"
	"reuseportd/internal/eventloop"
	"reuseportd/internal/service/failure"
	"reuseportd/internal/upstream"
)

// headerTime is how long a client may take for what is read of it before a server is chosen: its PROXY protocol
// header and its TLS hello.
const headerTime = 10 * time.Second

// Options are what a service is made of.
type Options struct {
	Listener string // as failures show it
	Conf     *config.TCP
	Choosers map[string]*upstream.Chooser // of the same loop, by the upstream's name
	Failed   func(failure.Failure)        // must not block; nil is nobody
}

// Handler is the service of one event loop, for the clients' ends.
type Handler struct {
	loop    *eventloop.Loop
	servers *eventloop.Service // of the other ends
	conf    *config.TCP
	targets targets

	listener string
	failed   *failure.Teller

	header, first, idle, last, total, patience eventloop.Class

	keepalive *eventloop.Keepalive // nil if it is off

	free    []*session
	scratch []byte
}

// NewService makes the service of a loop, and that of the connections which it makes.
func NewService(l *eventloop.Loop, o Options) *eventloop.Service {
	h := &Handler{
		loop: l, conf: o.Conf, targets: newTargets(l, o.Conf, o.Choosers),
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
	// No write timeout on either: a pair is idle when neither direction moves.
	clients := l.NewService(h, 0)
	h.servers = l.NewService((*serverEnd)(h), 0)
	h.servers.SetNoDelay(o.Conf.NoDelay)
	clients.SetUpstreams(h.servers)
	return clients
}
