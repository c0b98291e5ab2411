package main

import (
	"context"
	"fmt"
	"slices"
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
		var ready []float64
		during, err := put(ctx, f.at(b.rate), c.doors[f.door], func(*loadgen.Load) error {
			ready, err = c.reloadEachSecond(ctx)
			return err
		})
		if err != nil {
			return nil, err
		}
		return b.ofReloads(f, quiet, during, ready), nil
	}
}

// reloadEachSecond returns what each took, in milliseconds, by the server's own account if it has one. That a signal
// was sent doesn't say that it was heard: each must bring a process that was not there.
func (c *contender) reloadEachSecond(ctx context.Context) ([]float64, error) {
	var ready []float64
	known := pids(c.Processes())
	for range reloads {
		second := time.Now().Add(time.Second)
		ms, err := c.reload(ctx)
		if err != nil {
			return nil, err
		}
		if ms > 0 {
			ready = append(ready, ms)
		}
		if err := rig.Sleep(ctx, time.Until(second)); err != nil {
			return nil, err
		}
		now := pids(c.Processes())
		if !slices.ContainsFunc(now, func(pid int) bool { return !slices.Contains(known, pid) }) {
			return nil, fmt.Errorf("%s has not reloaded: it has no new process a second after it was told to", c.Name)
		}
		known = now
	}
	return ready, nil
}

func pids(all []rig.Process) []int {
	var pids []int
	for _, p := range all {
		pids = append(pids, p.PID)
	}
	return pids
}

func (b *bench) ofReloads(f flow, quiet, during shown, ready []float64) []reading {
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
	if len(ready) > 0 {
		all = append(all, reading{"to the new generation's serving, by its own account", "ms", rig.SpreadOf(ready).Median, true})
	}
	return append(all, reading{"requests due", "/s", b.rate, true})
}

func p99(r shown) float64 { return micro(time.Duration(r.Latency.ValueAtPercentile(99))) }
