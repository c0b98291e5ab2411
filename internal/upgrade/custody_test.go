package upgrade

import (
	"errors"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/config"
	"reuseportd/internal/custody"
	"reuseportd/internal/lifecycle"
	"reuseportd/internal/stats"
	"reuseportd/internal/wire"
)

// channel returns both ends of one.
func channel(t *testing.T) (a, b *wire.Conn) {
	t.Helper()
	a, far, err := wire.Pair()
	if err != nil {
		t.Fatal(err)
	}
	fd, err := dupFile(far)
	if err != nil {
		t.Fatal(err)
	}
	if b, err = wire.FromFD(fd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = a.Close(), b.Close() })
	return a, b
}

// A worker that waits to be started again is the next master's to start.
func TestCustodyOfWorkers(t *testing.T) {
	co := aMaster(t)
	ledger, err := stats.NewLedger()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ledger.Close() })
	co.tables.Ledger = ledger
	if err := errors.Join(co.takeClients(-1, ""), co.takeBoard(-1, "")); err != nil {
		t.Fatal(err)
	}
	co.handle(co.tables)
	conf := config.Default()
	conf.Workers, conf.Threads = 3, 1
	control, _ := channel(t)
	pidfd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		t.Fatal(err)
	}
	co.handle(lifecycle.Inherit{Generations: []lifecycle.Generation{{
		Generation: custody.Generation{ID: 7, State: "serving", Conf: conf},
		Workers: []custody.Worker{
			{Generation: 7, Index: 0, Slots: []int{0}, Page: 3, PID: 99, State: "serving", Leases: []custody.Lease{{Lease: wire.Lease{Key: "k", Slot: 0}, Acknowledged: true}}},
			{Generation: 7, Index: 1, Slots: []int{1}, Page: 4, State: "backoff", Restarts: 5},
		},
	}}})
	id := lifecycle.ID{Generation: 7, Index: 0}
	co.procs[id] = &proc{co: co, id: id, pid: 99, pidfd: pidfd, ch: control}

	a, b := channel(t)
	sent := make(chan error, 1)
	go func() { sent <- co.sendWorkers(a) }()
	cu := newHoldings()
	if err := cu.receive(b, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	defer cu.dropWorkers()
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	_ = unix.Close(pidfd)
	if len(cu.gens) != 1 || len(cu.gens[0].Workers) != 2 || len(cu.workers) != 1 {
		t.Fatalf("%d generations, %d processes", len(cu.gens), len(cu.workers))
	}
	got := cu.gens[0].Workers
	if w := got[0]; w.PID != 99 || w.Page != 3 || w.State != "serving" || len(w.Leases) != 1 || !w.Leases[0].Acknowledged || cu.workers[id].ch == nil {
		t.Errorf("the living: %+v", w)
	}
	if w := got[1]; w.PID != 0 || w.Page != 4 || !lifecycle.Backoff(&w) || w.Restarts != 5 {
		t.Errorf("the waiting: %+v", w)
	}
}
