package tcp

import (
	"strings"

	"reuseportd/internal/config"
	"reuseportd/internal/eventloop"
	"reuseportd/internal/upstream"
)

// target is an upstream to which clients may be passed.
type target struct {
	conf    *config.Upstream
	chooser *upstream.Chooser
	connect eventloop.Class
	servers *eventloop.Service // of connections that are made to its servers
	keyed   bool               // a server is chosen by the client's address
}

// name returns the upstream's name, "" for a nil target.
func (t *target) name() string {
	if t == nil {
		return ""
	}
	return t.conf.Name
}

// targets are the upstreams of a listener, by the names that TLS clients ask for.
type targets struct {
	own   *target            // for clients that ask for no name, or none of these; nil if there is none
	exact map[string]*target // nil if names don't matter
	below map[string]*target // by what follows the "*."
}

func newTargets(h *Handler, choosers map[string]*upstream.Chooser, secure Secure) (ts targets) {
	l, conf := h.loop, h.conf
	known := make(map[string]*target)
	of := func(name string) *target {
		if t := known[name]; t != nil {
			return t
		}
		up := choosers[name].Conf()
		t := &target{
			conf: up, chooser: choosers[name], connect: l.Class(up.ConnectTimeout), keyed: up.Balance == config.BalanceHash,
			servers: l.NewService((*serverEnd)(h), 0),
		}
		t.servers.SetNoDelay(conf.NoDelay)
		if up.TLS != nil && secure != nil {
			secure(t.servers, up, h.proxyFirst)
		}
		known[name] = t
		return t
	}
	if conf.Upstream != "" {
		ts.own = of(conf.Upstream)
	}
	if len(conf.SNI) == 0 {
		return ts
	}
	ts.exact, ts.below = make(map[string]*target), make(map[string]*target)
	for _, n := range conf.SNI {
		if suffix, wild := strings.CutPrefix(n.Name, "*."); wild {
			ts.below[suffix] = of(n.Upstream)
		} else {
			ts.exact[n.Name] = of(n.Upstream)
		}
	}
	return ts
}

// named reports whether the names that clients ask for matter.
func (ts *targets) named() bool { return ts.exact != nil }

// find returns the target for a client that asks for a name: the one with that name, or the longest "*." pattern
// that matches, or the listener's own, which may be nil.
func (ts *targets) find(name string) *target {
	if t := ts.exact[name]; t != nil {
		return t
	}
	for {
		_, rest, ok := strings.Cut(name, ".")
		if !ok {
			return ts.own
		}
		if t := ts.below[rest]; t != nil {
			return t
		}
		name = rest
	}
}

// of returns the target with an upstream's name, nil if there is none.
func (ts *targets) of(upstream string) *target {
	if ts.own.name() == upstream {
		return ts.own
	}
	for _, all := range []map[string]*target{ts.exact, ts.below} {
		for _, t := range all {
			if t.conf.Name == upstream {
				return t
			}
		}
	}
	return nil
}
