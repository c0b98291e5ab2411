package http

import (
	"errors"
	"fmt"

	"reuseportd/internal/config"
	"reuseportd/internal/eventloop"
	"reuseportd/internal/service/http/proxy"
	"reuseportd/internal/service/http/stream"
)

// kinds are the kinds of routes. Each returns the route that a configuration asks for, nil if it asks for
// another kind.
var kinds = []func(*Site, *config.Route) (kind, error){newFixed, newFiles, newProxy}

// kind is what a kind of route has to do.
type kind interface {
	// bind returns the route as it is in one loop.
	bind(b *binding) stream.Route
	// close closes what the route has open.
	close()
}

// route is one route of a site, compiled.
type route struct {
	kind
	path   string
	number int // of all in its site
	guard  guard
}

// guard is what a kind of route is too if the path is read again by others: see Site.ambiguous.
type guard interface {
	// Base is the route's path without a slash at its end.
	Base() string
	// Strips reports whether the others don't see that.
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

// binding is what routes are given to be used in one loop.
type binding struct {
	site   *Site
	loop   *eventloop.Loop
	pools  map[string]*proxy.Pool // by the names of the upstreams
	shared map[any]any
}

// share returns what all routes of a kind share in the loop, under a key that is theirs alone.
func share[T any](b *binding, key any, make func() T) T {
	if v, ok := b.shared[key]; ok {
		return v.(T)
	}
	v := make()
	b.shared[key] = v
	return v
}
