package http

import (
	"errors"
	"fmt"

	"reuseportd/internal/config"
	"reuseportd/internal/eventloop"
	"reuseportd/internal/service/http/proxy"
	"reuseportd/internal/service/http/stream"
)

// kinds are the kinds of routes. Each function returns the route for a configuration, nil if that asks
// for another kind.
var kinds = []func(*Site, *config.Route) (kind, error){newFixed, newRedirect, newFiles, newProxy}

// kind is a route of one of the kinds, shared by all loops.
type kind interface {
	// bind returns the route for one loop.
	bind(b *binding) stream.Route
	// close closes what the route has open.
	close()
}

// route is one compiled route of a site.
type route struct {
	kind
	path   string
	number int // index in its site
	guard  guard
}

// guard is implemented by routes that pass the path to servers, which read it again: see
// Site.ambiguous.
type guard interface {
	// Base is the route's path without a slash at its end.
	Base() string
	// Strips reports whether that path is removed from what servers get.
	Strips() bool
}

// compile makes a route of a site.
func (s *Site) compile(c *config.Route) (*route, error) {
	for _, make := range kinds {
		k, err := make(s, c)
		if err != nil {
			return nil, fmt.Errorf("route %s%s: %w", c.Host, c.Path, err)
		}
		if k == nil {
			continue
		}
		r := &route{kind: k, path: c.Path, number: len(s.all)}
		r.guard, _ = k.(guard)
		s.all = append(s.all, r)
		return r, nil
	}
	return nil, errors.New("route " + c.Host + c.Path + " does nothing")
}

// binding is what routes need to be used in one loop.
type binding struct {
	site   *Site
	loop   *eventloop.Loop
	pools  map[string]*proxy.Pool // by the names of the upstreams
	shared map[any]any
}

// share returns what all routes of a kind share in a loop. key is theirs alone; make is called
// for the first one.
func share[T any](b *binding, key any, make func() T) T {
	if v, ok := b.shared[key]; ok {
		return v.(T)
	}
	v := make()
	b.shared[key] = v
	return v
}
