package main

import (
	"context"
	"fmt"
	"time"

	"reuseportd/internal/loadgen"
	"reuseportd/internal/rig"
)

// reloads are how many a round has, one a second.
const reloads = 5

// reloading is a load at a fixed rate, at first with nothing else, then with reloads. What is lost is a figure here.
func reloading(ctx context.Context, b *bench, c *contender, d time.Duration) ([]reading, error) {
	config := onKept(0, b.rate)
	quiet, err := lossless(ctx, config, c.doors[doorReload], d)
	if err != nil {
		return nil, fmt.Errorf("undisturbed: %w", err)
	}
	var ready []float64
	during, err := put(ctx, config, c.doors[doorReload], func(*loadgen.Load) error {
		for range reloads {
			second := time.Now().Add(time.Second)
			ms, err := c.reload(ctx)
			if err != nil {
				return err
			}
			if ms > 0 {
				ready = append(ready, ms)
			}
			if err := rig.Sleep(ctx, time.Until(second)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	before, then := p99(quiet), p99(during)
	all := []reading{
		{"p99 undisturbed", "µs", before, false},
		{"p99 during", "µs", then, false},
		{duringToUndisturbed, "×", then / before, false},
		{"requests lost", "", float64(during.Lost), true},
		{"connections closed", "", float64(during.Closed), true},
		{"connects failed", "", float64(during.Failed), true},
	}
	if len(ready) > 0 {
		all = append(all, reading{"to the new generation's serving, by its own account", "ms", rig.SpreadOf(ready).Median, true})
	}
	return append(all, reading{"requests due", "/s", b.rate, true}), nil
}

func p99(r shown) float64 { return micro(time.Duration(r.Latency.ValueAtPercentile(99))) }
