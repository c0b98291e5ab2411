package lifecycle

import (
	"testing"

	"reuseportd/internal/config"
	"reuseportd/internal/wire"
)

// checkShares holds the rule: what all living workers were told is no more than there is.
func (w *world) checkShares() {
	w.t.Helper()
	sum := int64(0)
	for _, p := range w.procs {
		if p.current() {
			sum += p.w.share
		}
	}
	if sum > w.room-leastReserve {
		w.t.Errorf("workers may use %d bytes of %d", sum, w.room)
	}
}

// shares returns what the latest Memory said to a process, 0 if none did.
func (p *fakeProc) told() (share int64) {
	for _, m := range p.inbox {
		if b, ok := m.(wire.Memory); ok {
			share = b.Share
		}
	}
	return share
}

// TestMemoryIsDivided: through a reload two generations share what one had.
func TestMemoryIsDivided(t *testing.T) {
	w := newWorld(t)
	w.room = 200 << 20
	port := ports(t, 1)[0]
	w.start(configure(2, 1, port))
	w.settle()
	w.checkShares()
	alone := w.procs[0].w.share
	if alone != 87<<20 {
		t.Errorf("each of two workers has %d bytes of 200 MiB", alone)
	}
	w.ready = false
	w.reload(configure(2, 1, port))
	w.checkShares()
	for i, p := range w.procs {
		if want := int64(43 << 20); p.w.share != want || i < 2 && p.told() != want {
			t.Errorf("worker %d of four has %d bytes, was told %d", i, p.w.share, p.told())
		}
	}
	w.ready = true
	w.settle()
	w.pass(divideEvery)
	w.checkShares()
	if got := w.procs[2].w.share; got != alone {
		t.Errorf("when the old generation has gone a worker has %d bytes, want %d", got, alone)
	}
}

// TestMemoryFollowsTheGroup: shares shrink at once and grow when that is worth a message.
func TestMemoryFollowsTheGroup(t *testing.T) {
	w := newWorld(t)
	w.room = 200 << 20
	w.start(configure(1, 1, ports(t, 1)[0]))
	w.settle()
	p := w.procs[0]
	for _, c := range []struct{ room, share int64 }{
		{200, 175}, {190, 166}, {192, 166}, {210, 183}, {0, 0}, {200, 175}, {1, 8},
	} {
		w.room = c.room << 20
		w.core.now = w.core.now.Add(divideEvery)
		w.handle(Tick{})
		if p.w.share != c.share<<20 {
			t.Errorf("room for %d MiB: the worker has %d bytes, want %d MiB", c.room, p.w.share, c.share)
		}
	}
	p.w.sharesNot = true
	w.room = 300 << 20
	w.pass(divideEvery)
	if p.told() == 300<<20 {
		t.Error("a worker that knows of no shares was told one")
	}
}

// TestNextMasterHasHalf: while another master may start workers, those that are here have half.
func TestNextMasterHasHalf(t *testing.T) {
	w := newWorld(t)
	w.room = 200 << 20
	w.start(configure(2, 1, ports(t, 1)[0]))
	w.settle()
	w.handle(Request{Action: "upgrade"})
	for _, p := range w.procs {
		if p.w.share != 43<<20 {
			t.Errorf("a worker has %d bytes", p.w.share)
		}
	}
}

func TestMemoryOf(t *testing.T) {
	for _, c := range []struct{ conf, share, want int64 }{
		{config.MemoryAuto, 0, 0},
		{config.MemoryAuto, 5, 5},
		{config.MemoryNone, 5, 0},
		{7, 0, 7},
		{7, 5, 5},
		{7, 9, 7},
	} {
		if got := (&config.Config{MaxMemory: c.conf}).MemoryOf(c.share); got != c.want {
			t.Errorf("max_memory %d with a share of %d: %d, want %d", c.conf, c.share, got, c.want)
		}
	}
}
