package main

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"

	"github.com/google/pprof/profile"

	"reuseportd/internal/loadgen"
	"reuseportd/internal/rig"
)

// load is one kind of traffic, put on the server for a while.
type load struct {
	name string
	put  func(ctx context.Context, b *bench, connections int, d time.Duration) error
}

var loads = []load{
	{"kept", func(ctx context.Context, b *bench, n int, d time.Duration) error {
		return wrk(ctx, rig.Wrk{Connections: n}, b.web, "/", d)
	}},
	{"pipelined", func(ctx context.Context, b *bench, n int, d time.Duration) error {
		return wrk(ctx, rig.Wrk{Connections: n, Script: b.pipelined}, b.web, "/", d)
	}},
	{"churn", func(ctx context.Context, b *bench, n int, d time.Duration) error {
		return wrk(ctx, rig.Wrk{Connections: n, Header: "Connection: close"}, b.web, "/", d)
	}},
	{"file", func(ctx context.Context, b *bench, n int, d time.Duration) error {
		return wrk(ctx, rig.Wrk{Connections: n}, b.files, "/small", d)
	}},
	{"large file", func(ctx context.Context, b *bench, n int, d time.Duration) error {
		return wrk(ctx, rig.Wrk{Connections: n}, b.files, "/large", d)
	}},
	{"proxied", func(ctx context.Context, b *bench, n int, d time.Duration) error {
		return wrk(ctx, rig.Wrk{Connections: n}, b.proxied, "/", d)
	}},
	{"tcp", func(ctx context.Context, b *bench, n int, d time.Duration) error {
		return echo(ctx, loadgen.Config{Connections: n, Kept: true, Echo: 64}, b.tcp, d)
	}},
	{"tcp churn", func(ctx context.Context, b *bench, n int, d time.Duration) error {
		return echo(ctx, loadgen.Config{Connections: n, Echo: 64}, b.tcp, d)
	}},
}

func wrk(ctx context.Context, w rig.Wrk, address, path string, d time.Duration) error {
	_, err := w.Run(ctx, "http://"+address+path, d)
	return err
}

func echo(ctx context.Context, c loadgen.Config, address string, d time.Duration) error {
	var err error
	if c.Address, err = netip.ParseAddrPort(address); err != nil {
		return err
	}
	c.Threads = 2
	l, err := loadgen.Start(c)
	if err != nil {
		return err
	}
	err = rig.Sleep(ctx, d)
	if r := l.Stop(); err == nil && r.Answered == 0 {
		err = errors.New("nothing was answered")
	}
	return err
}

// before and after are how much longer a load is than its profiles.
const before, after = time.Second / 2, time.Second / 2

// measure puts a load on the server and returns the profiles of its workers.
func (b *bench) measure(ctx context.Context, l load, o options) ([]*profile.Profile, error) {
	d := o.duration.Truncate(time.Second)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var profiles []*profile.Profile
	var taking error
	var wg sync.WaitGroup
	wg.Go(func() {
		if taking = rig.Sleep(ctx, before); taking == nil {
			profiles, taking = b.profiles(ctx, d)
		}
	})
	err := l.put(ctx, b, o.connections, before+d+after)
	if err != nil {
		cancel() // what goes on is the profile of an idle server
	}
	wg.Wait()
	if err != nil {
		return nil, err
	}
	return profiles, taking
}
