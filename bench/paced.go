package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"time"

	"reuseportd/internal/loadgen"
	"reuseportd/internal/rig"
)

// flow is a kind of traffic that our own generator makes.
type flow struct {
	door  door
	echo  int  // bytes that an echo sends back; 0 is HTTP
	fresh bool // a connection for each request, and not 64 that are kept
}

var (
	smallFlow   = flow{door: doorSmall}
	freshFlow   = flow{door: doorChurn, fresh: true}
	proxiedFlow = flow{door: doorProxied}
	echoFlow    = flow{door: doorTCP, echo: message}
)

// at is the load at a rate, or without a pause if that is 0.
func (f flow) at(rate float64) loadgen.Config {
	c := loadgen.Config{Connections: connections, Threads: 1, Kept: !f.fresh, Echo: f.echo, Rate: rate}
	if f.fresh && rate > 0 {
		c.Connections = 1000 // who is late has more of them open
	}
	return c
}

// shown is the result of a load.
type shown struct {
	loadgen.Result
	// At the window's start and end, when answers may be outstanding.
	atStart, atEnd loadgen.Counts
}

// put runs a load while something is done, and records from when all its connections are there.
func put(ctx context.Context, c loadgen.Config, address string, during func(*loadgen.Load) error) (shown, error) {
	var err error
	if c.Address, err = netip.ParseAddrPort(address); err != nil {
		return shown{}, err
	}
	l, err := loadgen.Start(c)
	if err != nil {
		return shown{}, err
	}
	if c.Kept {
		err = established(ctx, l, uint64(c.Connections))
	}
	begin := l.Counts()
	l.Record()
	if err == nil {
		err = during(l)
	}
	l.EndRecord()
	end := l.Counts()
	return shown{l.Stop(), begin, end}, err
}

func putFor(ctx context.Context, c loadgen.Config, address string, d time.Duration) (shown, error) {
	return put(ctx, c, address, func(*loadgen.Load) error { return rig.Sleep(ctx, d) })
}

// established waits until a load has its connections, and a moment more for what they have cost.
func established(ctx context.Context, l *loadgen.Load, n uint64) error {
	for end := time.Now().Add(20 * time.Second); l.Counts().Connects < n; {
		if time.Now().After(end) {
			return fmt.Errorf("of %d connections, %d were established in 20 s", n, l.Counts().Connects)
		}
		if err := rig.Sleep(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
	return rig.Sleep(ctx, 200*time.Millisecond)
}

// lossless is put for a time, where a request that is lost is an error.
func lossless(ctx context.Context, c loadgen.Config, address string, d time.Duration) (shown, error) {
	r, err := putFor(ctx, c, address, d)
	if err == nil {
		err = whole(r.Counts)
	}
	return r, err
}

func whole(c loadgen.Counts) error {
	if c.Lost > 0 || c.Failed > 0 || c.Answered == 0 {
		return fmt.Errorf("%d requests answered, %d lost, %d connects failed", c.Answered, c.Lost, c.Failed)
	}
	return nil
}

// saturate sets the rate of a paced load: half of what the slowest of three can do without a pause.
func saturate(f flow) func(context.Context, *bench, *result) error {
	return func(ctx context.Context, b *bench, r *result) error {
		lowest := math.Inf(1)
		for _, name := range []string{ours, "nginx", "HAProxy"} {
			c := b.named(name)
			if c == nil || c.doors[f.door] == "" || r.Failed[name] != "" {
				continue
			}
			done, err := lossless(ctx, f.at(0), c.doors[f.door], b.o.duration)
			if err != nil {
				r.fail(name, fmt.Errorf("without a pause: %w", err))
				continue
			}
			lowest = min(lowest, float64(done.Latency.TotalCount())/b.o.duration.Seconds())
		}
		if math.IsInf(lowest, 1) {
			return errors.New("nobody could do it without a pause, so there is no rate for it")
		}
		b.rate = lowest / 2
		return nil
	}
}

// latency counts from when a request was due. Who can't keep up has answers outstanding at the end; that shows in his
// latencies, and is no failure.
func latency(f flow) func(context.Context, *bench, *contender, time.Duration) ([]reading, error) {
	return func(ctx context.Context, b *bench, c *contender, d time.Duration) ([]reading, error) {
		r, err := putFor(ctx, f.at(b.rate), c.doors[f.door], d)
		if err == nil {
			err = whole(r.atEnd)
		}
		if err != nil {
			return nil, err
		}
		of := func(percent float64) float64 { return micro(time.Duration(r.Latency.ValueAtPercentile(percent))) }
		return []reading{
			{"p50", "µs", of(50), false},
			{"p99", "µs", of(99), false},
			{"p99.9", "µs", of(99.9), false},
			{"the load's own delay, p99", "µs", micro(time.Duration(r.Late.ValueAtPercentile(99))), true},
			{"requests due", "/s", b.rate, true},
			{"and answered", "/s", float64(r.atEnd.Answered-r.atStart.Answered) / d.Seconds(), true},
		}, nil
	}
}

// added computes how much latencies are above those without a proxy in the same round.
func added(r *result) {
	for _, name := range []string{"p50", "p99", "p99.9"} {
		f := r.figure(name)
		if f == nil {
			continue
		}
		f.Aside = true
		base := f.Values[direct]
		for who, values := range f.Values {
			for i := range min(len(values), len(base)) {
				if who != direct {
					r.add(who, []reading{{"added to " + name, "µs", values[i] - base[i], false}})
				}
			}
		}
	}
}
