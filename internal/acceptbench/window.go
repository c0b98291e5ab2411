package acceptbench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"reuseportd/internal/control"
	"reuseportd/internal/loadgen"
	"reuseportd/internal/rig"
)

// window is one measurement: a load on a server for a time.
type window struct {
	seconds   float64
	done      uint64 // connections of a churn, requests on kept connections
	serverCPU time.Duration
	genCPU    time.Duration
	idle      time.Duration
	switches  uint64
	latency   percentiles // µs
	latencies int64       // of which these are the percentiles
	late      float64     // µs, p99 of how late the load began what was due

	// The server's own counts are taken slightly before and after the others, so they have a
	// duration of their own.
	counted float64 // seconds
	counts  Counts
	workers []WorkerCounts

	load loadgen.Counts // over the whole load: the window, before and after it
	seen Counts         // the same, by the server's account
}

// percentiles are of latencies in µs.
type percentiles struct{ p50, p99, p999 float64 }

// settleWithin is how long to wait until the server has counted what the load has seen.
const settleWithin = time.Second

// measure puts a load on the server and measures it for d, after a warm-up. The caller
// makes the stalls, if any.
func (s *server) measure(ctx context.Context, c loadgen.Config, d time.Duration) (window, error) {
	c.Address = s.address
	start, err := s.snapshot(ctx)
	if err != nil {
		return window{}, err
	}
	load, err := loadgen.Start(c)
	if err != nil {
		return window{}, err
	}
	w, err := s.watch(ctx, load, d)
	r := load.Stop()
	if err != nil {
		return w, err
	}
	µs := func(percentile float64) float64 {
		return float64(r.Latency.ValueAtPercentile(percentile)) / float64(time.Microsecond)
	}
	w.latency, w.latencies = percentiles{µs(50), µs(99), µs(99.9)}, r.Latency.TotalCount()
	w.late = float64(r.Late.ValueAtPercentile(99)) / float64(time.Microsecond)
	w.load = r.Counts
	if r.Answered == 0 {
		return w, fmt.Errorf("no request was answered: %d connects, %d failed, %d requests lost\n%s", r.Connects, r.Failed, r.Lost, s.log())
	}
	w.seen, err = s.settled(ctx, start, r.Counts)
	return w, err
}

// watch measures the window itself.
func (s *server) watch(ctx context.Context, load *loadgen.Load, d time.Duration) (window, error) {
	if err := rig.Sleep(ctx, min(d/4, 200*time.Millisecond)); err != nil {
		return window{}, err
	}
	first, err := s.snapshot(ctx)
	if err != nil {
		return window{}, err
	}
	load.Record()
	was, done := usageOf(first.pids), load.Counts()
	if err := rig.Sleep(ctx, d); err != nil {
		return window{}, err
	}
	is, now := usageOf(first.pids), load.Counts()
	load.EndRecord()
	last, err := s.snapshot(ctx)
	if err != nil {
		return window{}, err
	}
	w := window{
		seconds: is.at.Sub(was.at).Seconds(), done: now.Answered - done.Answered,
		serverCPU: is.server - was.server, genCPU: is.generator - was.generator, idle: is.idle - was.idle,
		switches: is.switches - was.switches,
	}
	w.counted = last.at.Sub(first.at).Seconds()
	w.workers, err = last.since(first)
	w.counts = total(w.workers)
	return w, err
}

// snapshot takes the counts of a server with all its workers.
func (s *server) snapshot(ctx context.Context) (snapshot, error) {
	st, err := s.status(ctx)
	switch {
	case errors.Is(err, control.ErrNoMaster):
		return snapshot{}, fmt.Errorf("the server has ended\n%s", s.log())
	case err != nil:
		return snapshot{}, err
	}
	snap := snapshotOf(st)
	if n := len(snap.workers); n != s.workers {
		return snapshot{}, fmt.Errorf("%d of %d workers serve\n%s", n, s.workers, s.log())
	}
	return snap, nil
}

// settled returns what the server has counted since start, as soon as that agrees with
// what the load has seen, or after settleWithin.
func (s *server) settled(ctx context.Context, start snapshot, load loadgen.Counts) (Counts, error) {
	for end := time.Now().Add(settleWithin); ; {
		now, err := s.snapshot(ctx)
		if err != nil {
			return Counts{}, err
		}
		workers, err := now.since(start)
		if err != nil {
			return Counts{}, err
		}
		seen := total(workers)
		if agree(load, seen) || time.Now().After(end) {
			return seen, nil
		}
		if err := rig.Sleep(ctx, 2*time.Millisecond); err != nil {
			return Counts{}, err
		}
	}
}

// agree reports whether load and server have counted the same.
func agree(load loadgen.Counts, seen Counts) bool {
	return seen.Accepted == load.Connects && seen.Requests == load.Answered
}
