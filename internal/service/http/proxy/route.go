package proxy

import (
	"time"

	"reuseportd/internal/config"
	"reuseportd/internal/eventloop"
	"reuseportd/internal/service/http/message"
	"reuseportd/internal/service/http/stream"
	"reuseportd/internal/upstream"
)

// Hub is what the proxied routes of one site share in one loop.
type Hub struct {
	loop     *eventloop.Loop
	listener string // its name, for reports of failures
	// body is the timeout of servers while a request's body is awaited, quiet that of
	// tunnels.
	body, quiet eventloop.Class

	relays eventloop.Spare[*Relay] // relays to be reused
	opts   message.Options
	room   []byte // for heads that are being composed
	req    message.Request
	resp   message.Response
}

// NewHub makes the hub of a loop. body is how long to wait for the next piece of a request's body,
// quiet how long a tunnel may be without traffic.
func NewHub(l *eventloop.Loop, listener string, body, quiet time.Duration) *Hub {
	h := &Hub{loop: l, listener: listener, body: l.Class(body), quiet: l.Class(quiet)}
	l.OnTrim(func() { h.relays.Trim(func(*Relay) {}) })
	return h
}

// Route passes requests on to an upstream, in one loop.
type Route struct {
	*Rules
	hub             *Hub
	pool            *Pool
	patience, total eventloop.Class // of ResponseTimeout and TotalTimeout
}

// Route returns the route for rules; pool is that of their upstream.
func (h *Hub) Route(p *Rules, pool *Pool) *Route {
	return &Route{
		Rules: p, hub: h, pool: pool,
		patience: h.loop.Class(p.conf.ResponseTimeout), total: h.loop.Class(p.conf.TotalTimeout),
	}
}

// ReadsBody implements stream.Route.
func (rt *Route) ReadsBody() bool { return true }

// Serve implements stream.Route.
func (rt *Route) Serve(s stream.Stream, r *message.Request, body []byte) stream.Responder {
	x := rt.relay(s, r)
	x.body, x.whole = append(x.body[:0], body...), s.BodyRead()
	s.Deadline(rt.total)
	if x.attempt(); x.s == nil {
		return nil
	}
	return x
}

// relay makes a relay for a request.
func (rt *Route) relay(s stream.Stream, r *message.Request) *Relay {
	x, ok := rt.hub.relays.Take()
	if !ok {
		x = new(Relay)
	}
	*x = Relay{route: rt, s: s, body: x.body[:0], minor: r.Minor, attempts: attempts{hub: rt.hub, pool: rt.pool}}
	switch string(r.Method) {
	case "GET":
		x.method, x.safe = get, true
	case "HEAD":
		x.method, x.safe = head, true
	case "OPTIONS", "PUT", "DELETE", "TRACE":
		x.safe = true
	}
	x.origin = rt.origin(s.Peer())
	x.origin.secure, x.origin.session = s.Secure(), s.Session()
	x.key = rt.key(r, &x.origin)
	return x
}

var get, head = []byte("GET"), []byte("HEAD")

// key returns the hash key by which a server is chosen, if the upstream uses one.
func (rt *Route) key(r *message.Request, o *origin) uint64 {
	conf := rt.pool.conf
	switch {
	case conf.Balance != config.BalanceHash:
		return 0
	case conf.HashHeader == "":
		return upstream.KeyOfAddr(o.client)
	}
	for lines := r.Lines; len(lines) > 0; {
		var name, value []byte
		if name, value, lines = message.NextField(lines); message.Same(name, rt.pool.hashHeader) && len(value) > 0 {
			return upstream.KeyOf(value)
		}
	}
	return upstream.KeyOfAddr(o.client) // otherwise all clients without the field would share one server
}

// options reads the names in a request's Connection beyond those known to message.
func (h *Hub) options(r *message.Request) (o message.Options, ok bool) {
	if r.MoreOptions == 0 {
		return nil, true
	}
	h.opts, ok = h.opts.Read(r.Lines)
	return h.opts, ok
}
