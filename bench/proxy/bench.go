package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"reuseportd/internal/rig"
)

// workers is how many every proxy has; of HAProxy, threads.
const workers = 2

// proxy is one server under measurement.
type proxy struct {
	*rig.Server
	bulk, tcp, web string   // addresses that lead to iperf3, to the echo, to the HTTP server
	more           []target // further ways to pass bulk on
}

// target is where a load goes, and whose CPU time it costs.
type target struct {
	*rig.Server
	name    string
	address string
}

// bench is all that runs during a measurement.
type bench struct {
	o       options
	behind  *behind
	proxies []*proxy // ours first
	relay   *rig.Server
}

// newBench configures everything and starts nothing.
func newBench(ctx context.Context, dir string, o options) (*bench, error) {
	b := &bench{o: o}
	ours, err := newReuseportd(ctx, dir, o.server)
	if err != nil {
		return nil, err
	}
	if b.behind, err = newBehind(ctx, dir, ours.Args[0]); err != nil {
		return nil, err
	}
	if b.relay, err = newRelay(dir, b.behind.bulk); err != nil {
		return nil, err
	}
	p, err := ours.configure(b.behind)
	if err != nil {
		return nil, err
	}
	b.proxies = []*proxy{p}
	for _, rival := range []func(string, *behind) (*proxy, error){nginx, haproxy} {
		switch p, err := rival(dir, b.behind); {
		case err == nil:
			b.proxies = append(b.proxies, p)
		case !errors.Is(err, exec.ErrNotFound):
			return nil, err
		}
	}
	if len(b.proxies) == 1 {
		return nil, errors.New("neither nginx with its stream module nor HAProxy is here, so there is nothing to compare with")
	}
	return b, nil
}

// servers are all that are started, those behind first.
func (b *bench) servers() []*rig.Server {
	all := []*rig.Server{b.behind.web, b.behind.iperf, b.relay}
	for _, p := range b.proxies {
		all = append(all, p.Server)
		for _, t := range p.more {
			if t.Server != p.Server {
				all = append(all, t.Server)
			}
		}
	}
	return all
}

func (b *bench) start(ctx context.Context) error {
	for _, s := range b.servers() {
		if err := s.Start(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) stop() {
	for _, s := range b.servers() {
		s.Stop()
	}
}

// targets are the proxies, each with the address that the load needs.
func (b *bench) targets(address func(*proxy) string) []target {
	var all []target
	for _, p := range b.proxies {
		all = append(all, target{p.Server, p.Name, address(p)})
	}
	return all
}

// warmUp is the length of the round that doesn't count.
const warmUp = time.Second

// round puts a load on a target for a time. keep takes what it has cost.
type round func(t target, d time.Duration) (keep func(cpu time.Duration), err error)

// interleave puts one load on all targets, round after round, and nobody is always
// first. CPU time is that of each round alone. The round before the first isn't kept.
func (b *bench) interleave(ctx context.Context, what string, all []target, do round) error {
	for n := -1; n < b.o.rounds; n++ {
		d := b.o.duration
		if n < 0 {
			d = warmUp
		}
		fmt.Fprintf(os.Stderr, "bench-proxy: %s, round %d of %d\n", what, n+1, b.o.rounds)
		for i := range all {
			t := all[(i+max(n, 0))%len(all)]
			before := t.CPU()
			keep, err := do(t, d)
			if err != nil {
				return fmt.Errorf("%s: %w", t.name, err)
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			if n >= 0 {
				keep(t.CPU() - before)
			}
		}
	}
	return nil
}
