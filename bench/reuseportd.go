package main

import (
	"context"
	"fmt"
	"time"

	"reuseportd/internal/rig"
)

// loops are those of a reuseportd.
type loops struct{ workers, threads int }

// reuseportdConf is more than rig's configuration has, which ends within listeners.
const reuseportdConf = `  - name: static
    address: %[1]s
    http: {routes: [{path: /static/, files: {root: %[2]s, cache: 1s}}]}
  - name: proxied
    address: %[3]s
    http: {routes: [{proxy: {upstream: web}}]}
  - name: bulk
    address: %[4]s
    tcp: {upstream: bulk}
  - name: tcp
    address: %[5]s
    tcp: {upstream: echo}
upstreams:
  - {name: web, servers: [{address: %[6]q}]}
  - {name: bulk, servers: [{address: %[7]q}]}
  - {name: echo, servers: [{address: %[8]q}]}
threads: %[9]d
`

func reuseportd(l loops) func(context.Context, place) (*contender, error) {
	return func(ctx context.Context, p place) (*contender, error) {
		r, err := rig.NewReuseportd(ctx, p.dir, p.binary)
		if err != nil {
			return nil, err
		}
		a, err := addresses(4)
		if err != nil {
			return nil, err
		}
		r.Tail = fmt.Sprintf(reuseportdConf, a[0], p.site, a[1], a[2], a[3],
			p.behind.http, p.behind.bulk, p.behind.echo(), l.threads)
		c := &contender{Server: r.Server, doors: map[door]string{
			doorSmall: r.Address, doorChurn: r.Address,
			doorStatic: a[0], doorFairFile: a[0], doorProxied: a[1], doorBulk: a[2], doorTCP: a[3],
		}}
		c.reload = hangUp(r.Master)
		c.lastCut = func(ctx context.Context) (uint64, error) {
			s, err := r.Status(ctx)
			return s.LastChange.Cut, err
		}
		r.NoFile = p.nofile
		drain := 30 * time.Second
		if p.nofile > 0 {
			drain = lockoutDrain
		}
		return c, r.Configure(l.workers, drain)
	}
}

// encrypting is a contender of its own, since builds that -beside names may not have TLS.
func encrypting(ctx context.Context, p place) (*contender, error) {
	r, err := rig.NewReuseportd(ctx, p.dir, p.binary)
	if err != nil {
		return nil, err
	}
	a, err := rig.FreeAddress()
	if err != nil {
		return nil, err
	}
	cert, key := pairOf(p.site)
	r.Tail = fmt.Sprintf(reuseportdTLS, a, cert, key, p.site)
	return &contender{Server: r.Server, doors: map[door]string{doorTLS: a}}, r.Configure(workers, time.Second)
}

func deferring(ctx context.Context, p place) (*contender, error) {
	r, err := rig.NewReuseportd(ctx, p.dir, p.binary)
	if err != nil {
		return nil, err
	}
	r.Keys = "defer_accept: true"
	return &contender{Server: r.Server, doors: map[door]string{doorChurn: r.Address}}, r.Configure(workers, time.Second)
}

// directly is a server like that behind, with no proxy before it.
func directly(ctx context.Context, p place) (*contender, error) {
	r, echo, err := newWeb(ctx, p.dir, p.binary)
	if err != nil {
		return nil, err
	}
	return &contender{Server: r.Server, doors: map[door]string{
		doorProxied: r.Address, doorTCP: "127.0.0.1:" + echo,
	}}, nil
}

// addresses are n free ones.
func addresses(n int) ([]string, error) {
	var all []string
	for range n {
		a, err := rig.FreeAddress()
		if err != nil {
			return nil, err
		}
		all = append(all, a)
	}
	return all, nil
}
