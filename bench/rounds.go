package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"time"

	"reuseportd/internal/rig"
)

// warmUp is the length of the round that doesn't count.
const warmUp = time.Second

// bench is all that loads need.
type bench struct {
	o      options
	all    []*contender
	script string  // makes wrk send many requests at once
	rate   float64 // of the paced load that runs
}

// measure puts one load on all contenders that take part, round after round, and none is always first, so that a
// change of the machine affects all. One that fails is left out from then on. It returns an error only if ctx
// ends.
func (b *bench) measure(ctx context.Context, l load) (*result, error) {
	takers := l.takers(b.all)
	r := newResult(l, b.o, takers)
	for _, c := range takers {
		defer c.Stop()
		if err := start(ctx, c); err != nil {
			r.fail(c.Name, err)
		}
	}
	if l.prepare != nil {
		if err := l.prepare(ctx, b, r); err != nil {
			for _, c := range takers {
				r.fail(c.Name, err)
			}
		}
	}
	n := -1
	if l.cold {
		n = 0
	}
	for ; n < b.o.rounds && ctx.Err() == nil; n++ {
		fmt.Fprintf(os.Stderr, "bench: %s, round %d of %d\n", l.name, n+1, b.o.rounds)
		for i := range takers {
			c := takers[(i+max(n, 0))%len(takers)]
			if r.Failed[c.Name] == "" && ctx.Err() == nil {
				b.once(ctx, l, c, r, n)
			}
		}
	}
	if l.finish != nil {
		l.finish(r)
	}
	return r, ctx.Err()
}

// start starts a contender when nobody has its address: a process that is dying may have it for a moment more.
func start(ctx context.Context, c *contender) error {
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); {
		conn, err := net.Dial("tcp", c.Address)
		if err != nil {
			break
		}
		_ = conn.Close()
		if err := rig.Sleep(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
	return c.Start(ctx)
}

// once is one round of one contender; round -1 isn't kept.
func (b *bench) once(ctx context.Context, l load, c *contender, r *result, round int) {
	d := b.o.duration
	if round < 0 {
		d = warmUp
	}
	bounded, cancel := context.WithTimeout(ctx, time.Duration(l.times)*d+l.extra+time.Minute)
	defer cancel()
	readings, err := l.once(bounded, b, c, d)
	switch {
	case ctx.Err() != nil:
	case err != nil:
		r.fail(c.Name, err)
	case round >= 0:
		r.add(c.Name, readings)
	}
}

// named returns the contender of a name, nil if there is none.
func (b *bench) named(name string) *contender {
	for _, c := range b.all {
		if c.Name == name {
			return c
		}
	}
	return nil
}
