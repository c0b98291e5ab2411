package http

import (
	"cmp"
	"slices"

	"reuseportd/internal/config"
	"reuseportd/internal/material"
	"reuseportd/internal/service/http/accesslog"
	"reuseportd/internal/service/http/h1"
)

// Options are what a site needs besides its configuration.
type Options struct {
	// AccessLog is the descriptor to write to, -1 if there is no access log. The caller
	// keeps it open, and closes it.
	AccessLog int
	// LogDropped, unless nil, is called with the number of dropped lines of the access log when lines can
	// be written again. It must not block.
	LogDropped func(lines uint64)
	// Materials are the files that the configuration names.
	Materials *material.Set
	// Listener is the listener's name, for reports of failures of upstreams.
	Listener string
}

// Site is the compiled service of one listener. It is shared by the loops of a worker and
// never changes, except by Renew.
type Site struct {
	conf     *config.HTTP
	set      *material.Set // the set that the site was made with
	listener string
	limits   h1.Limits
	hosts    map[string][]*route // by lower-case host, longest path first
	rest     []*route            // those for any host
	all      []*route            // by number
	log      *accesslog.Log      // nil if there is none
	fixed    int                 // how many fixed answers there are
}

// NewSite compiles a configuration and opens what it names.
func NewSite(c *config.HTTP, o Options) (*Site, error) {
	s := &Site{
		conf: c, listener: o.Listener, set: o.Materials,
		limits: h1.Limits{Line: c.MaxRequestLine, Head: c.MaxHeader, Body: c.MaxBody},
		hosts:  make(map[string][]*route),
	}
	for i := range c.Routes {
		r, err := s.compile(&c.Routes[i])
		if err != nil {
			s.Close()
			return nil, err
		}
		if host := c.Routes[i].Host; host != "" {
			s.hosts[host] = append(s.hosts[host], r)
		} else {
			s.rest = append(s.rest, r)
		}
	}
	longest := func(a, b *route) int { return cmp.Compare(len(b.path), len(a.path)) }
	slices.SortStableFunc(s.rest, longest)
	for _, rs := range s.hosts {
		slices.SortStableFunc(rs, longest)
	}
	if c.AccessLog != nil && o.AccessLog >= 0 {
		s.log = accesslog.New(o.AccessLog, c.AccessLog.Format, o.LogDropped)
	}
	return s, nil
}

// Renew replaces the contents of files in all loops by those in set. It replaces all of them, or none and returns an
// error.
func (s *Site) Renew(set *material.Set) error {
	var swaps []func()
	for _, r := range s.all {
		k, ok := r.kind.(renewer)
		if !ok {
			continue
		}
		swap, err := k.renew(set)
		if err != nil {
			return err
		}
		swaps = append(swaps, swap)
	}
	for _, swap := range swaps {
		swap()
	}
	return nil
}

// renewer is implemented by routes whose answers depend on files that the master reads.
type renewer interface {
	// renew prepares to answer from the contents in set; swap takes them into use.
	renew(set *material.Set) (swap func(), err error)
}

// Close closes what the routes have open, and writes the lines of the access log that
// wait.
func (s *Site) Close() {
	for _, r := range s.all {
		r.close()
	}
	if s.log != nil {
		s.log.Close()
	}
}

// find returns the route of a host and path: the one with the longest path among those for the host, or
// else among those for any host. It returns nil if there is none.
func (s *Site) find(host, path []byte) *route {
	if len(s.hosts) > 0 {
		if found := longestPrefix(s.hosts[string(host)], path); found != nil {
			return found
		}
	}
	return longestPrefix(s.rest, path)
}

func longestPrefix(routes []*route, path []byte) *route {
	for _, r := range routes {
		p := r.path
		if len(path) < len(p) || string(path[:len(p)]) != p {
			continue
		}
		if len(path) == len(p) || p[len(p)-1] == '/' || path[len(p)] == '/' {
			return r
		}
	}
	return nil
}
