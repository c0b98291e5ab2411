package upgrade

import (
	"os"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"reuseportd/internal/config"
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
	co := &coordinator{log: zerolog.Nop()}
	co.core = newCore(co, co.log, "test", 1, time.Now())
	if err := co.takeClients(-1, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = co.core.clients.Close() })
	g := &generation{id: 7, state: serving, conf: config.Default()}
	control, _ := channel(t)
	pidfd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		t.Fatal(err)
	}
	alive := &worker{gen: g, index: 0, slots: []int{0}, page: 3, pid: 99, state: serving}
	alive.proc = &proc{co: co, w: alive, pid: 99, pidfd: pidfd, ch: control}
	waits := &worker{gen: g, index: 1, slots: []int{1}, page: 4, state: backoff, restarts: 5}
	left := &worker{gen: g, index: 2, slots: []int{2}, state: gone}
	g.workers = []*worker{alive, waits, left}
	co.core.gens = []*generation{g}

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
	if len(cu.gens) != 1 || len(cu.gens[0].workers) != 2 || len(cu.workers) != 1 {
		t.Fatalf("%d generations, %d processes", len(cu.gens), len(cu.workers))
	}
	got := cu.gens[0].workers
	if w := got[0]; w.pid != 99 || w.page != 3 || w.state != serving || cu.workers[w].ch == nil {
		t.Errorf("the living: %+v", w)
	}
	if w := got[1]; w.pid != 0 || w.page != 4 || w.state != backoff || w.restarts != 5 || w.retryAt.After(time.Now()) {
		t.Errorf("the waiting: %+v", w)
	}
}
