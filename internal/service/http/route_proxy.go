package http

import (
	"reuseportd/internal/config"
	"reuseportd/internal/service/http/proxy"
	"reuseportd/internal/service/http/stream"
)

// passing is a route that passes requests on to servers.
type passing struct{ *proxy.Rules }

func newProxy(s *Site, c *config.Route) (kind, error) {
	if c.Proxy == nil {
		return nil, nil
	}
	return passing{proxy.NewRules(c.Proxy, c.Path, s.conf.TrustedProxies, s.conf.UnderscoresInHeaders)}, nil
}

func (p passing) bind(b *binding) stream.Route { return hub(b).Route(p.Rules, b.pools[p.Upstream()]) }
func (p passing) close()                       {}

// hub returns what all such routes, and tunnels from another process, share in a loop.
func hub(b *binding) *proxy.Hub {
	return share(b, passing{}, func() *proxy.Hub {
		return proxy.NewHub(b.loop, b.site.listener, b.site.conf.BodyTimeout, b.site.conf.TunnelTimeout)
	})
}
