package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"reuseportd/internal/rig"
)

// bench does upgrades of one server.
type bench struct {
	o      options
	server *rig.Reuseportd
	exact  bool // the server tells when the old generation is gone
}

// round is the result of one upgrade.
type round struct {
	Connections int     `json:"connections"` // idle ones
	Lost        int     `json:"lost"`        // of them
	HandedOver  uint64  `json:"handed_over"` // by the server's account, as the next five
	Finished    uint64  `json:"finished"`
	Cut         uint64  `json:"cut"`
	ReadyMS     float64 `json:"ready_ms"` // from the request to the cut-over
	// From the cut-over, in milliseconds; 0 if the server doesn't tell.
	HandoverMS float64 `json:"handover_ms"`
	DrainedMS  float64 `json:"drained_ms"`
	// GoneMS is from the cut-over to the end of the old workers as watched.
	GoneMS float64   `json:"gone_ms"`
	Busy   rig.Tally `json:"busy"` // over the whole round
	// Latencies of the busy clients: before the upgrade, for as long as it
	// took; from its request to the end of the old generation; and from the
	// cut-over to that end.
	Undisturbed window `json:"undisturbed"`
	During      window `json:"during"`
	AfterCut    window `json:"after_cut_over"`
}

// round opens idle connections, upgrades under load and counts what is left.
func (b *bench) round(ctx context.Context, idle int) (r round, err error) {
	conns, err := rig.OpenIdle(ctx, b.server.Address, idle)
	defer func() { rig.CloseAll(conns) }()
	if err != nil {
		return r, err
	}
	if err := b.server.ReplaceBinary(); err != nil {
		return r, err
	}
	old, err := b.watchWorkers(ctx)
	if err != nil {
		return r, err
	}
	defer old.Close()

	load := rig.StartKept(ctx, b.server.Address, b.o.clients)
	defer load.Stop()
	// As long as an upgrade takes at the most, and the time to get going.
	if err := rig.Sleep(ctx, b.o.drain+time.Second); err != nil {
		return r, err
	}
	requested := time.Now()
	receipt, gone, err := b.upgrade(ctx, old)
	if err != nil {
		return r, err
	}
	r = round{
		Connections: idle,
		HandedOver:  receipt.HandedOver, Finished: receipt.Finished, Cut: receipt.Cut,
		ReadyMS: receipt.ReadyMS, HandoverMS: receipt.HandoverMS, DrainedMS: receipt.DrainedMS,
		GoneMS: ms(gone.Sub(receipt.CutOver())),
		Busy:   load.Stop(),
	}
	end := gone
	if b.exact {
		end = receipt.CutOver().Add(time.Duration(receipt.DrainedMS * float64(time.Millisecond)))
	}
	r.Undisturbed = latencies(load, requested.Add(-end.Sub(requested)), requested)
	r.During = latencies(load, requested, end)
	r.AfterCut = latencies(load, receipt.CutOver(), end)
	r.Lost = rig.CountLost(conns)
	return r, ctx.Err()
}

func (b *bench) watchWorkers(ctx context.Context) (*rig.Exits, error) {
	status, err := b.server.Status(ctx)
	if err != nil {
		return nil, err
	}
	if len(status.Workers()) != b.o.workers {
		return nil, fmt.Errorf("the server has %d workers, not %d", len(status.Workers()), b.o.workers)
	}
	return rig.WatchExits(status.Workers())
}

// upgrade returns the receipt with its final counts, and when the old workers
// had ended.
func (b *bench) upgrade(ctx context.Context, old *rig.Exits) (receipt rig.Receipt, gone time.Time, err error) {
	// Beyond drain_timeout a worker has five seconds more, then it is killed.
	ctx, cancel := context.WithTimeout(ctx, b.o.drain+20*time.Second)
	defer cancel()
	watched := make(chan error, 1)
	go func() {
		var err error
		gone, err = old.Wait(ctx)
		watched <- err
	}()
	if b.exact {
		receipt, err = b.server.Change(ctx, "upgrade", "--drained")
		if err == nil && !receipt.Drained {
			err = errors.New("upgrade --drained answered before the old generation was gone")
		}
	} else {
		receipt, err = b.server.Change(ctx, "upgrade")
	}
	if err != nil {
		cancel()
		<-watched
		return receipt, gone, err
	}
	if err := <-watched; err != nil || b.exact {
		return receipt, gone, err
	}
	receipt, err = b.counts(ctx)
	return receipt, gone, err
}

// counts waits until the master, too, has seen the end of the old generation.
func (b *bench) counts(ctx context.Context) (rig.Receipt, error) {
	for {
		status, err := b.server.Status(ctx)
		if err != nil || len(status.Groups) == 1 {
			return status.LastChange, err
		}
		if err := rig.Sleep(ctx, 10*time.Millisecond); err != nil {
			return rig.Receipt{}, err
		}
	}
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
