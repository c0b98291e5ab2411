package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"reuseportd/internal/rig"
)

// sides are what abreast compares.
var sides = []struct {
	figure string
	door   door
	path   string
	wrk    rig.Wrk
	// builds says that rivals have another load of this, with what they need for it.
	builds bool
}{
	{"on a kept connection", doorSmall, "/", rig.Wrk{Connections: connections, Threads: 1}, false},
	{"on a fresh connection", doorChurn, "/", rig.Wrk{Connections: connections, Threads: 1, Header: churning.Header}, false},
	{"passed on", doorProxied, "/", rig.Wrk{Connections: connections, Threads: 1}, true},
	{"a file of 4 KiB", doorStatic, "/static/" + files[0].name, rig.Wrk{Connections: connections, Threads: 1}, true},
	{"a file of 1 MiB", doorStatic, "/static/" + files[1].name, rig.Wrk{Connections: connections, Threads: 1}, true},
}

// abreast puts a load on a contender and the same on ours, at the same time: whatever the machine does meets both, so
// that the ratio of what they cost shows differences of a hundredth. It is the way to compare two builds, and where
// there are such (-beside), it compares only them.
func abreast(ctx context.Context, b *bench, c *contender, d time.Duration) ([]reading, error) {
	us := b.named(ours)
	build := isBuild(c.Name)
	if c == us || !build && b.o.beside != "" {
		return nil, nil
	}
	var all []reading
	for _, s := range sides {
		if s.builds && !build {
			continue
		}
		ratio, err := toOurs(ctx, us, c, s.door, s.path, s.wrk, d)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.figure, err)
		}
		all = append(all, reading{s.figure + ": CPU, to reuseportd's at the same time", "×", ratio, true})
	}
	return all, nil
}

// toOurs measures the ratio of what a request costs the contender to what it costs us.
func toOurs(ctx context.Context, us, c *contender, d door, path string, w rig.Wrk, t time.Duration) (float64, error) {
	type cost struct {
		cpu float64
		err error
	}
	one := func(c *contender) chan cost {
		done := make(chan cost, 1)
		go func() {
			before := c.CPU()
			n, err := w.Run(ctx, "http://"+c.doors[d]+path, t)
			done <- cost{float64(c.CPU()-before) / float64(max(n, 1)), err}
		}()
		return done
	}
	mine, theirs := one(us), one(c)
	a, b := <-mine, <-theirs
	return b.cpu / a.cpu, errors.Join(a.err, b.err)
}
