package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/google/pprof/profile"

	"reuseportd/internal/rig"
)

// hot are the loads for which the server is optimized. Each counts with the CPU time that it takes.
const hot = "kept,pipelined,churn,static,proxied,tcp"

// optimize writes the profile with which the server is built: a build without a profile serves the hot loads, while a
// CPU profile of each worker is taken; these are merged. `go build` then inlines what is hot. An outdated profile does
// no harm, but helps less.
func optimize(ctx context.Context, o options) error {
	chosen, err := choose(hot)
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Dir(o.pgo)); err != nil {
		return fmt.Errorf("-pgo %s: %w", o.pgo, err) // now, and not when all has been measured
	}
	if err := equip(ctx, 1000); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "rppgo")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	// An earlier profile must not influence what is hot, for example by inlining.
	o.server = filepath.Join(dir, "plain")
	if err := rig.Build(ctx, o.server, "", "reuseportd/cmd/reuseportd", "-pgo=off"); err != nil {
		return fmt.Errorf("build reuseportd: %w", err)
	}
	b, p, err := prepare(ctx, dir, o)
	if err != nil {
		return err
	}
	c, err := reuseportd(loops{workers, 1})(ctx, p)
	if err != nil {
		return err
	}
	c.doors[doorPipelined] = c.doors[doorSmall]
	c.Args = append(c.Args, "--pprof")
	defer p.behind.stop()
	if err := p.behind.start(ctx); err != nil {
		return err
	}
	defer c.Stop()
	if err := c.Start(ctx); err != nil {
		return err
	}
	var all []*profile.Profile
	for _, l := range chosen {
		ps, err := b.profiled(ctx, l, c, filepath.Join(p.dir, "run"))
		if err != nil {
			return fmt.Errorf("%s: %w", l.name, err)
		}
		fmt.Printf("%-10s %6.2f s of CPU time sampled\n", l.name, sampled(ps).Seconds())
		all = append(all, ps...)
	}
	size, err := writeProfile(o.pgo, all)
	if err == nil {
		fmt.Printf("%s: %d KiB\n", o.pgo, (size+1023)/1024)
	}
	return err
}

// profiled puts a load on a server and returns the profiles of its workers, whose sockets are in a runtime directory.
func (b *bench) profiled(ctx context.Context, l load, c *contender, run string) ([]*profile.Profile, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var ps []*profile.Profile
	var taking error
	var wg sync.WaitGroup
	wg.Go(func() { ps, taking = profiles(ctx, run, time.Duration(l.times)*b.o.duration) })
	_, err := l.once(ctx, b, c, b.o.duration)
	if err != nil {
		cancel() // what goes on is the profile of an idle server
	}
	wg.Wait()
	return ps, errors.Join(err, taking)
}
