package http

import (
	"reuseportd/internal/eventloop"
	"reuseportd/internal/service/failure"
	"reuseportd/internal/service/http/h1"
	"reuseportd/internal/service/http/message"
	"reuseportd/internal/service/http/proxy"
	"reuseportd/internal/service/http/stream"
	"reuseportd/internal/upstream"
)

// Pool has one event loop's connections to the servers of an upstream.
type Pool = proxy.Pool

// NewPool makes the pool of a chooser's upstream for its loop. tell is called by the loop
// for each failure, and must not block.
func NewPool(l *eventloop.Loop, c *upstream.Chooser, tell func(failure.Failure)) *Pool {
	return proxy.NewPool(l, c, tell, new(h1.Servers).NewCall)
}

// NewService makes the service of a site for a loop, and the one for connections to servers
// that come from another process together with a client's. pools are the loop's pools of the
// site's upstreams, by name.
func NewService(l *eventloop.Loop, s *Site, pools map[string]*Pool) *eventloop.Service {
	clients := l.NewService(newService(l, s, pools), s.conf.WriteTimeout)
	clients.SetMinRate(s.conf.MinRate)
	clients.SetUpstreams(proxy.NewService(l, pools))
	return clients
}

// service is a site in one loop: its framing and its routes, and how both go to another process.
type service struct {
	*h1.Handler
	site    *Site
	bound   *binding
	routes  []stream.Route // by route.number
	missing stream.Route   // for requests without a route
	scratch []byte         // paths as servers may read them
	opts    message.Options
}

func newService(l *eventloop.Loop, s *Site, pools map[string]*Pool) *service {
	v := &service{site: s, bound: &binding{site: s, loop: l, pools: pools, shared: make(map[any]any)}, missing: missing{}}
	for _, r := range s.all {
		v.routes = append(v.routes, r.bind(v.bound))
	}
	c := s.conf
	v.Handler = h1.NewHandler(l, h1.Config{
		Limits:        s.limits,
		HeaderTimeout: c.HeaderTimeout, BodyTimeout: c.BodyTimeout, KeepaliveTimeout: c.KeepaliveTimeout,
		MaxRequests: c.MaxRequests, MaxLifetime: c.MaxLifetime,
		Log: s.log.Writer(),
	}, v)
	return v
}

// Find implements h1.Site.
func (v *service) Find(r *message.Request) (route stream.Route, status int) {
	found := v.site.find(r.Host, r.Path)
	if found == nil {
		return v.missing, 0
	}
	if found.guard != nil {
		if v.site.ambiguous(r, found, &v.scratch) {
			return nil, 400
		}
		if r.MoreOptions > 0 {
			// There is a bound, since every field is compared with each of them.
			var ok bool
			if v.opts, ok = v.opts.Read(r.Lines); !ok {
				return nil, 400
			}
		}
	}
	return v.routes[found.number], 0
}

// missing answers requests without a route, and those about the server as a whole (RFC 9110 section
// 9.3.7).
type missing struct{}

var asterisk = message.Response{Status: 204, Lines: []byte(message.Server + "Allow: GET, HEAD, OPTIONS\r\n"), Length: -1, Local: true}

// ReadsBody implements stream.Route.
func (missing) ReadsBody() bool { return false }

// Serve implements stream.Route.
func (missing) Serve(s stream.Stream, r *message.Request, _ []byte) stream.Responder {
	if string(r.Path) == "*" {
		s.Head(&asterisk, 0)
		s.End()
	} else {
		s.Fail(404)
	}
	return nil
}
