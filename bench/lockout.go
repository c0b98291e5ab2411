package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"reuseportd/internal/rig"
)

// Lockout is what a polite client gets while others use up the descriptors: they make one request on a kept connection,
// and then keep it open in silence. Their number is above what all of a server's processes may have open together. Each
// server's timeout for such connections is longer than a round, so what ends them meanwhile is that there is no room.

const (
	lockoutFiles = 2000 // descriptors of each process
	silent       = 6000 // connections
	// A probe or a newcomer waits for so long, and newcomers come for no longer than that: a server that answers
	// nobody any more would otherwise take a round of hours.
	lockoutTimeout  = 2 * time.Second
	lockoutArrivals = 12 * time.Second
	// An old generation may keep for so long what it could not hand over, and a reload is given up on after more than that.
	lockoutDrain  = 2 * time.Second
	lockoutReload = 5 * time.Second
)

// Figures of lockout.
const (
	silentOpen     = "silent connections still open"
	arrivalsFailed = "silent clients: without an answer"
	endedByReload  = "silent connections ended by a reload"
	cutByReload    = "connections cut by the reload, by its own account"
)

// phases are when probes ask: while silent clients come, and when they are there.
var phases = [2]string{"while they come", "afterwards"}

// limited makes a contender whose processes have few descriptors.
func limited(how func(context.Context, place) (*contender, error)) func(context.Context, place) (*contender, error) {
	return only(doorLockout, func(ctx context.Context, p place) (*contender, error) {
		p.nofile = lockoutFiles
		return how(ctx, p)
	})
}

// lockout has n silent clients come one after another, and asks politely meanwhile and afterwards. Then the server
// reloads, if it can.
func lockout(n int) func(context.Context, *bench, *contender, time.Duration) ([]reading, error) {
	return func(ctx context.Context, _ *bench, c *contender, d time.Duration) ([]reading, error) {
		q := question{address: c.doors[doorLockout], path: "/", fresh: true, timeout: lockoutTimeout}
		all, came := crowd(ctx, q, n, d)
		defer func() {
			for _, a := range came {
				a.close()
			}
		}()
		if err := ctx.Err(); err != nil || c.reload == nil {
			return all, err
		}
		reloaded, err := c.reloadCrowded(ctx, came)
		return append(all, reloaded...), err
	}
}

// crowd returns the silent clients that were answered, with their connections, beside what was seen.
func crowd(ctx context.Context, q question, n int, d time.Duration) (all []reading, came []*asker) {
	coming, arrived := context.WithTimeout(ctx, lockoutArrivals)
	defer arrived()
	meanwhile := make(chan probed, 1)
	go func() { meanwhile <- probe(coming, q) }()
	began := time.Now()
	came, failed := arrive(coming, q, n)
	took := time.Since(began)
	arrived()
	all = (<-meanwhile).readings(phases[0])

	staying, left := context.WithTimeout(ctx, d)
	defer left()
	all = append(all, probe(staying, q).readings(phases[1])...)
	return append(all,
		reading{"silent clients: came", "", float64(len(came) + failed), true},
		reading{arrivalsFailed, "", float64(failed), true},
		reading{"silent clients: time that they took", "s", took.Seconds(), true},
		reading{silentOpen, "", float64(stillOpen(came)), true}), came
}

// reloadCrowded counts what a reload costs silent clients.
func (c *contender) reloadCrowded(ctx context.Context, came []*asker) ([]reading, error) {
	before := stillOpen(came)
	if err := c.reloadOnce(ctx); err != nil {
		return nil, err
	}
	all := []reading{{endedByReload, "", float64(before - stillOpen(came)), true}}
	if c.lastCut == nil {
		return all, nil
	}
	cut, err := c.lastCut(ctx)
	return append(all, reading{cutByReload, "", float64(cut), true}), err
}

// arrive has clients come one after another until there are n or ctx ends. It returns those that were answered, with
// their connections, and how many weren't.
func arrive(ctx context.Context, q question, n int) (came []*asker, failed int) {
	for len(came)+failed < n && ctx.Err() == nil {
		a := &asker{question: q}
		if err := a.ask(); err != nil {
			a.close()
			failed++
			continue
		}
		came = append(came, a)
	}
	return came, failed
}

func stillOpen(all []*asker) (n int) {
	for _, a := range all {
		if a.open() {
			n++
		}
	}
	return n
}

// reloadOnce reloads, and waits until none of the processes from before is left but the master, or for lockoutReload:
// what a server lets drain longer than that isn't cut.
func (c *contender) reloadOnce(ctx context.Context) error {
	known := pids(c.Processes())
	if err := c.reload(ctx); err != nil {
		return err
	}
	fresh := false
	for end := time.Now().Add(lockoutReload); time.Now().Before(end); {
		now := pids(c.Processes())
		old := len(slices.DeleteFunc(slices.Clone(now), func(pid int) bool { return !slices.Contains(known, pid) }))
		if fresh = fresh || len(now) > old; fresh && old <= 1 {
			break
		}
		if err := rig.Sleep(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
	if !fresh {
		return fmt.Errorf("%s has not reloaded at the limit: it has no new process %v after it was told to", c.Name, lockoutReload)
	}
	return nil
}
