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

func (u *Upstream) check() error {
	switch {
	case !slices.Contains(balances, u.Balance), u.HashHeader != "" && (u.Balance != BalanceHash || !isToken(u.HashHeader)):
		return fmt.Errorf("balance %q, hash %q", u.Balance, u.HashHeader)
	case u.ConnectTimeout <= 0 || u.IdleTimeout <= 0 || u.CoolDown <= 0 || u.SlowStart < 0 || u.ResolveEvery <= 0:
		return errors.New("a time is out of bounds")
	case u.IdleConnections < 0 || u.MaxFailures < 0 || u.Retries < 0 || u.SendProxy < 0 || u.SendProxy > 2:
		return errors.New("a number is out of bounds")
	case len(u.Servers) == 0 || len(u.Servers) > maxServers:
		return fmt.Errorf("%d servers", len(u.Servers))
	case !slices.ContainsFunc(u.Servers, func(s Server) bool { return !s.Backup }):
		return errors.New("backups only")
	}
	seen := map[string]bool{}
	for i := range u.Servers {
		s := &u.Servers[i]
		if seen[s.Network+s.Address] {
			return fmt.Errorf("server %s twice", s.Address)
		}
		seen[s.Network+s.Address] = true
		if err := s.check(); err != nil {
			return fmt.Errorf("server %q: %w", s.Address, err)
		}
	}
	return u.Check.check()
}

func (s *Server) check() error {
	ap, err := netip.ParseAddrPort(s.Address)
	switch {
	case s.Weight < 1 || s.Weight > maxWeight || s.MaxConnections < 0 || s.Pos.Line < 1:
		return fmt.Errorf("%+v", *s)
	case s.Network == "unix":
		if !filepath.IsAbs(s.Address) || len(s.Address) > maxUnixPath || s.Named {
			return errors.New("no path")
		}
	case s.Network != "tcp":
		return fmt.Errorf("network %q", s.Network)
	case s.Named:
		if err == nil || s.Address != strings.ToLower(s.Address) || strings.Count(s.Address, ":") != 1 {
			return errors.New("no name")
		}
	case err != nil || ap.String() != s.Address || ap.Port() == 0 || ap.Addr().IsUnspecified() || ap.Addr().Is4In6():
		return errors.New("no address")
	}
	return nil
}

func (k *Check) check() error {
	if k == nil {
		return nil
	}
	if k.Timeout <= 0 || k.Timeout > k.Interval || k.Rise < 1 || k.Fall < 1 {
		return fmt.Errorf("check %+v", *k)
	}
	if k.Path != "" && (!strings.HasPrefix(k.Path, "/") || strings.ContainsAny(k.Path, " \r\n") || k.StatusFrom < 200 || k.StatusTo < k.StatusFrom) {
		return fmt.Errorf("check %+v", *k)
	}
	return nil
}

func (t *TCP) check() error {
	if t.Upstream == "" && len(t.SNI) == 0 || t.IdleTimeout < 0 || t.TotalTimeout < 0 {
		return fmt.Errorf("tcp %+v", *t)
	}
	if k := t.Keepalive; k != nil && (k.Idle < time.Second || k.Interval < time.Second || (k.Idle+k.Interval)%time.Second != 0 || k.Count < 1) {
		return fmt.Errorf("keepalive %+v", *k)
	}
	return nil
}

func (p *Proxy) check() error {
	if p.Upstream == "" || p.Host == "" || strings.ContainsAny(p.Host, " \r\n\x00") || p.ResponseTimeout <= 0 || p.TotalTimeout < 0 {
		return fmt.Errorf("proxy %+v", *p)
	}
	for _, h := range append(slices.Clone(p.Request.Set), p.Response.Set...) {
		if !isToken(h.Name) || strings.ContainsAny(h.Value, "\r\n\x00") || proxyHeaders[strings.ToLower(h.Name)] != "" {
			return fmt.Errorf("header %+v", h)
		}
	}
	for _, name := range append(slices.Clone(p.Request.Remove), p.Response.Remove...) {
		if !isToken(name) || proxyHeaders[strings.ToLower(name)] != "" {
			return fmt.Errorf("header %q", name)
		}
	}
	return nil
}
