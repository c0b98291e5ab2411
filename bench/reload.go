package main

import (
	"context"
	"fmt"
	"slices"
	"syscall"
	"time"

	"reuseportd/internal/loadgen"
	"reuseportd/internal/rig"
)

// reloads are how many a round has, one a second.
const reloads = 4

// reloading is a load at a fixed rate, at first with nothing else, then with reloads. What is lost is a figure here.
func reloading(f flow) func(context.Context, *bench, *contender, time.Duration) ([]reading, error) {
	return func(ctx context.Context, b *bench, c *contender, d time.Duration) ([]reading, error) {
		quiet, err := lossless(ctx, f.at(b.rate), c.doors[f.door], d)
		if err != nil {
			return nil, fmt.Errorf("undisturbed: %w", err)
		}
		during, err := put(ctx, f.at(b.rate), c.doors[f.door], func(*loadgen.Load) error { return c.reloadEachSecond(ctx) })
		if err != nil {
			return nil, err
		}
		return b.ofReloads(f, quiet, during), nil
	}
}

// reloadEachSecond reloads by a signal. A signal gives no answer, so after each there must be a process that wasn't
// there before.
func (c *contender) reloadEachSecond(ctx context.Context) error {
	known := pids(c.Processes())
	for range reloads {
		second := time.Now().Add(time.Second)
		if err := c.reload(ctx); err != nil {
			return err
		}
		if err := rig.Sleep(ctx, time.Until(second)); err != nil {
			return err
		}
		now := pids(c.Processes())
		if !slices.ContainsFunc(now, func(pid int) bool { return !slices.Contains(known, pid) }) {
			return fmt.Errorf("%s has not reloaded: it has no new process a second after it was told to", c.Name)
		}
		known = now
	}
	return nil
}

// hangUp reloads servers whose master reloads on SIGHUP.
func hangUp(master func() (int, error)) func(context.Context) error {
	return func(context.Context) error {
		pid, err := master()
		if err != nil {
			return err
		}
		return syscall.Kill(pid, syscall.SIGHUP)
	}
}

func pids(all []rig.Process) []int {
	var pids []int
	for _, p := range all {
		pids = append(pids, p.PID)
	}
	return pids
}

func (b *bench) ofReloads(f flow, quiet, during shown) []reading {
	before, then := p99(quiet), p99(during)
	all := []reading{
		{"p99 undisturbed", "µs", before, false},
		{"p99 during", "µs", then, false},
		{duringToUndisturbed, "×", then / before, false},
		{requestsLost, "", float64(during.Lost + during.Failed), true},
	}
	if !f.fresh {
		all = append(all, reading{"connections closed", "", float64(during.Closed), true})
	}
	return append(all, reading{"requests due", "/s", b.rate, true})
}

func p99(r shown) float64 { return micro(time.Duration(r.Latency.ValueAtPercentile(99))) }
