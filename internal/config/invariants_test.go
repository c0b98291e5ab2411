package config

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// check verifies what the types promise: Parse never returns a Config that fails it.
func (c *Config) check() error {
	var errs []error
	want := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	want(c.Workers >= 1 && c.Threads >= 1 && c.Slots() <= maxSlots, "%d workers × %d threads", c.Workers, c.Threads)
	want(c.DrainTimeout >= 0 && c.StartTimeout > 0 && c.WorkerTimeout >= 0 && c.Probation >= 0, "a timeout is negative")
	want(c.MaxDraining >= 1, "max_draining %d", c.MaxDraining)
	want(c.MaxConnections >= 0, "max_connections %d", c.MaxConnections)
	want(c.MaxMemory == MemoryAuto || c.MaxMemory == MemoryNone || c.MaxMemory >= leastMemory && c.MaxMemory <= mostMemory, "max_memory %d", c.MaxMemory)
	want(len(c.SHA256) == 64, "sha256 %q", c.SHA256)
	want(len(c.Listeners) > 0, "no listeners")
	for i := range c.Upstreams {
		u := &c.Upstreams[i]
		want(u.Name != "" && c.Upstream(u.Name) == u, "upstream %q", u.Name)
		if err := u.check(); err != nil {
			errs = append(errs, fmt.Errorf("upstream %s: %w", u.Name, err))
		}
	}
	names, keys := map[string]bool{}, map[string]bool{}
	for i := range c.Listeners {
		l := &c.Listeners[i]
		want(l.Name != "" && !names[l.Name], "name %q", l.Name)
		want(!keys[l.Key()], "address %q twice", l.Key())
		names[l.Name], keys[l.Key()] = true, true
		if err := l.check(); err != nil {
			errs = append(errs, fmt.Errorf("listener %s: %w", l.Name, err))
		}
		for _, name := range l.upstreams() {
			want(c.Upstream(name) != nil, "listener %s: upstream %q", l.Name, name)
		}
	}
	return errors.Join(errs...)
}

func (l *Listener) check() error {
	switch ap, err := netip.ParseAddrPort(l.Address); l.Network {
	case "unix":
		if !filepath.IsAbs(l.Address) || len(l.Address) > maxUnixPath || l.Accept == AcceptReuseport || l.Mode == 0 {
			return fmt.Errorf("unix listener %+v", l)
		}
	case "tcp4", "tcp6":
		if err != nil || ap.String() != l.Address || ap.Port() == 0 || ap.Addr().Is4() != (l.Network == "tcp4") || l.Mode != 0 {
			return fmt.Errorf("%s listener at %q", l.Network, l.Address)
		}
	default:
		return fmt.Errorf("network %q", l.Network)
	}
	switch {
	case !slices.Contains(accepts, l.Accept):
		return fmt.Errorf("accept %q", l.Accept)
	case !slices.Contains(steerings, l.Steering) || !slices.Contains(steerings[:3], l.Fallback):
		return fmt.Errorf("steering %q, %q", l.Steering, l.Fallback)
	case l.Accept != AcceptReuseport && (l.Shards != 0 || l.Steering != SteerHash), l.Shards < 0 || l.Shards > maxSlots,
		l.Steering == SteerLoad && l.Shards != 0:
		return fmt.Errorf("%d shards, steering %s with accept %s", l.Shards, l.Steering, l.Accept)
	case l.Share && (l.Network == "unix" || l.Steering != SteerHash):
		return fmt.Errorf("a shared address of network %s, steering %s", l.Network, l.Steering)
	case l.ClientConnections < 0 || l.ClientConnections > 0 && l.Network == "unix":
		return fmt.Errorf("%d connections for each client at a %s address", l.ClientConnections, l.Network)
	case l.Backlog < 1 || l.Mode&^0o777 != 0 || l.Pos.Line < 1 || l.Pos.Column < 1:
		return fmt.Errorf("backlog %d, mode %o, place %v", l.Backlog, l.Mode, l.Pos)
	case !exactlyOne(l.HTTP != nil, l.TCP != nil, l.Echo != nil):
		return errors.New("not exactly one service")
	case l.TCP != nil:
		return l.TCP.check()
	case l.Echo != nil && l.Echo.IdleTimeout < 0:
		return errors.New("negative idle_timeout")
	case l.HTTP != nil:
		return l.HTTP.check()
	}
	return nil
}

func (h *HTTP) check() error {
	for _, t := range []time.Duration{h.HeaderTimeout, h.BodyTimeout, h.KeepaliveTimeout, h.WriteTimeout} {
		if t < time.Millisecond || t > maxDuration {
			return fmt.Errorf("timeout %s", t)
		}
	}
	if h.MaxRequestLine < 1 || h.MaxHeader < h.MaxRequestLine || h.MaxBody < 0 || len(h.Routes) == 0 {
		return fmt.Errorf("limits %d %d %d, %d routes", h.MaxRequestLine, h.MaxHeader, h.MaxBody, len(h.Routes))
	}
	if a := h.AccessLog; a != nil && (a.Format != "combined" && a.Format != "json" || a.File != "-" && !filepath.IsAbs(a.File)) {
		return fmt.Errorf("access log %+v", a)
	}
	seen := map[[2]string]bool{}
	for _, r := range h.Routes {
		key := [2]string{r.Host, r.Path}
		if seen[key] || !strings.HasPrefix(r.Path, "/") || r.Host != strings.ToLower(r.Host) {
			return fmt.Errorf("route %v", key)
		}
		seen[key] = true
		if err := r.check(); err != nil {
			return fmt.Errorf("route %v: %w", key, err)
		}
	}
	return nil
}

func (r *Route) check() error {
	if !exactlyOne(r.Respond != nil, r.Files != nil, r.Proxy != nil) {
		return errors.New("not exactly one answer")
	}
	if r.Proxy != nil {
		return r.Proxy.check()
	}
	if f := r.Files; f != nil {
		if !filepath.IsAbs(f.Root) || f.Index == "" || strings.ContainsAny(f.Index, "/\x00") {
			return fmt.Errorf("files %+v", f)
		}
		return nil
	}
	if s := r.Respond.Status; s < 200 || s > 599 || bodiless(s) && len(r.Respond.Body) > 0 {
		return fmt.Errorf("status %d with %d bytes", s, len(r.Respond.Body))
	}
	for _, h := range r.Respond.Headers {
		if !isToken(h.Name) || strings.ContainsAny(h.Value, "\r\n\x00") || ownHeaders[strings.ToLower(h.Name)] != "" {
			return fmt.Errorf("header %+v", h)
		}
	}
	return nil
}

func exactlyOne(all ...bool) bool {
	n := 0
	for _, b := range all {
		if b {
			n++
		}
	}
	return n == 1
}

// upstreams returns the names of those that a listener uses.
func (l *Listener) upstreams() []string {
	var names []string
	if l.TCP != nil {
		if l.TCP.Upstream != "" {
			names = append(names, l.TCP.Upstream)
		}
		for _, n := range l.TCP.SNI {
			names = append(names, n.Upstream)
		}
	}
	if l.HTTP != nil {
		for _, r := range l.HTTP.Routes {
			if r.Proxy != nil {
				names = append(names, r.Proxy.Upstream)
			}
		}
	}
	return names
}
