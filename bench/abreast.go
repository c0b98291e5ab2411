package main

import (
	"context"
	"errors"
	"time"

	"reuseportd/internal/rig"
)

// abreast puts a load on a contender and the same on ours, at the same time: whatever the machine does meets both, so
// that the ratio of what they cost shows differences of a hundredth. It is the way to compare two builds (-beside).
func abreast(ctx context.Context, b *bench, c *contender, d time.Duration) ([]reading, error) {
	us := b.named(ours)
	if c == us {
		return nil, nil
	}
	kept, err := toOurs(ctx, us, c, doorSmall, rig.Wrk{Connections: connections, Threads: 1}, d)
	if err != nil {
		return nil, err
	}
	fresh, err := toOurs(ctx, us, c, doorChurn, rig.Wrk{Connections: connections, Threads: 1, Header: churning.Header}, d)
	return []reading{
		{"on a kept connection: CPU, to reuseportd's at the same time", "×", kept, true},
		{"on a fresh connection: CPU, to reuseportd's at the same time", "×", fresh, true},
	}, err
}

// toOurs is what a request costs the contender to what it costs us.
func toOurs(ctx context.Context, us, c *contender, d door, w rig.Wrk, t time.Duration) (float64, error) {
	type cost struct {
		cpu float64
		err error
	}
	one := func(c *contender) chan cost {
		done := make(chan cost, 1)
		go func() {
			before := c.CPU()
			n, err := w.Run(ctx, "http://"+c.doors[d]+"/", t)
			done <- cost{float64(c.CPU()-before) / float64(max(n, 1)), err}
		}()
		return done
	}
	mine, theirs := one(us), one(c)
	a, b := <-mine, <-theirs
	return b.cpu / a.cpu, errors.Join(a.err, b.err)
}
