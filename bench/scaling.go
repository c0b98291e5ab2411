package main

import (
	"context"
	"fmt"
	"time"

	"reuseportd/internal/loadgen"
	"reuseportd/internal/rig"
)

// growing are the numbers of connections in the scaling load.
var growing = []int{100, 1000, 8000}

// scaling is requests on kept connections without a pause. What it costs to open them is not in it, which is why this
// is not wrk.
func scaling(ctx context.Context, _ *bench, c *contender, d time.Duration) ([]reading, error) {
	var all []reading
	var least, most float64
	for _, n := range growing {
		config := smallFlow.at(0)
		config.Connections, config.Together = n, true // else nginx, which takes one at a time, is late with it
		one, err := byLoadgen(ctx, c, config, doorScaling, fmt.Sprintf("%d connections", n), d)
		if err != nil {
			return nil, fmt.Errorf("%d connections: %w", n, err)
		}
		all = append(all, one...)
		if least == 0 {
			least = one[0].value
		}
		most = max(most, one[0].value)
	}
	return append(all, reading{growth, "×", most / least, true}), nil
}

// byLoadgen tells what a request of a load without a pause costs, from when its connections are open.
func byLoadgen(ctx context.Context, c *contender, config loadgen.Config, at door, what string, d time.Duration) ([]reading, error) {
	var all []reading
	r, err := put(ctx, config, c.doors[at], func(l *loadgen.Load) (err error) {
		all, err = cost(c, d, what, func() (int, error) {
			before := l.Counts().Answered
			err := rig.Sleep(ctx, d)
			return int(l.Counts().Answered - before), err
		})
		return err
	})
	if err == nil {
		err = whole(r.Counts)
	}
	return all, err
}
