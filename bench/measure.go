package main

import (
	"context"
	"fmt"
	"time"

	"reuseportd/internal/rig"
)

// load is one way to run wrk.
type load struct{ name, header string }

// measureCPU gives two rows: CPU time of a request, and requests a second,
// which says more of the load generator on a small machine than of the server.
func measureCPU(ctx context.Context, o options, l load, all []contender) ([]row, error) {
	cpu := newRow(l.name, "µs", len(all))
	rate := newRow("   its rate, with wrk on the same CPUs", "/s", len(all))
	wrk := rig.Wrk{Connections: o.connections, Header: l.header}
	for round := -1; round < o.rounds; round++ {
		for i := range all {
			i := (i + max(round, 0)) % len(all) // nobody is always first
			duration := o.duration
			if round < 0 {
				duration = time.Second // to warm up
			}
			before := all[i].CPU()
			n, err := wrk.Run(ctx, "http://"+all[i].Address+"/", duration)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", all[i].Name, err)
			}
			if round < 0 {
				continue
			}
			used := all[i].CPU() - before
			cpu.add(i, float64(used)/float64(time.Microsecond)/float64(n))
			rate.add(i, float64(n)/duration.Seconds())
		}
	}
	return []row{cpu, rate}, nil
}

// measureMemory gives the private memory that one idle kept connection adds,
// after one request on it. What the kernel holds for its socket is not in it.
func measureMemory(ctx context.Context, o options, all []contender) (row, error) {
	r := newRow(fmt.Sprintf("private memory, one of %d idle kept connections", o.idle), "bytes", len(all))
	for i, c := range all {
		before, err := c.Private()
		if err != nil {
			return r, err
		}
		conns, err := rig.OpenIdle(ctx, c.Address, o.idle)
		if err == nil {
			var after int
			if after, err = c.Private(); err == nil {
				r.add(i, float64(after-before)/float64(o.idle))
			}
		}
		rig.CloseAll(conns)
		if err != nil {
			return r, fmt.Errorf("%s: %w", c.Name, err)
		}
	}
	return r, nil
}

// measureReload gives the time of a reload by the server's own account.
func measureReload(ctx context.Context, o options, all []contender) (row, error) {
	r := newRow("reload, to the new generation's serving", "ms", len(all))
	for i, c := range all {
		if c.reload == nil {
			continue
		}
		for range o.reloads {
			ms, err := c.reload(ctx)
			if err != nil {
				return r, fmt.Errorf("%s: %w", c.Name, err)
			}
			r.add(i, ms)
		}
	}
	return r, nil
}
