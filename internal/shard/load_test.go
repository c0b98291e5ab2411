package shard

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/config"
	"reuseportd/internal/eventloop"
	"reuseportd/internal/load"
)

// newLoad returns the load of n slots that are served, turn and have nothing to do.
func newLoad(t *testing.T, n int) *Load {
	t.Helper()
	l, err := NewLoad(n)
	if errors.Is(err, unix.EPERM) {
		t.Skipf("eBPF is not permitted here: %v", err)
	}
	must(t, err)
	t.Cleanup(func() { must(t, l.Close()) })
	for i := range n {
		l.Serve(i, true)
		turn(l, i, 0)
	}
	return l
}

// turn has a slot's latest turn be so long ago; a negative time is still to come.
func turn(l *Load, slot int, ago time.Duration) { l.Slot(slot).Turn = uint64(monotonic() - int64(ago)) }

func monotonic() int64 {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now)
	return now.Nano()
}

// always keeps the turn of a slot in the future, so that a slow test is no stuck loop.
const always = -time.Hour

// byLoad returns a group of n shards steered by their load, all of which turn for the
// length of the test.
func byLoad(t *testing.T, n int) (*Group, *Load) {
	t.Helper()
	return byLoadAt(t, tcp4(t), n)
}

func byLoadAt(t *testing.T, at *config.Listener, n int) (*Group, *Load) {
	t.Helper()
	g := listening(t, at, n)
	l := newLoad(t, n)
	for i := range n {
		turn(l, i, always)
	}
	must(t, g.SetPolicy(Policy{Kind: config.SteerLoad, Load: l}, n))
	must(t, g.check())
	return g, l
}

// spread connects count times and returns how many came to each shard. done is
// called after each connection with its shard.
func spread(t *testing.T, g *Group, count int, done func(int)) []int {
	t.Helper()
	got := make([]int, g.Listening())
	for range count {
		i := lands(t, g)
		got[i]++
		if done != nil {
			done(i)
		}
	}
	return got
}

// accepted has a slot's loop have accepted and closed what came to it.
func accepted(l *Load) func(int) { return func(i int) { l.Slot(i).Accepted++ } }

func TestLoadEntryLayout(t *testing.T) {
	if load.Size != 128 {
		t.Errorf("an entry has %d bytes, want two cache lines", load.Size)
	}
	if atServed != 64 || atTurn != 0 {
		t.Errorf("the loop's words begin at %d, the others at %d", atTurn, atServed)
	}
}

// The verifier accepts the program for any number of shards, and it chooses among
// no others.
func TestLoadProgramIsAccepted(t *testing.T) {
	l := newLoad(t, 1024)
	for _, n := range []int{1, 2, 3, 63, 64, 65, 1023, 1024} {
		if _, err := l.program(n); err != nil {
			t.Errorf("%d shards: %+v", n, err)
			continue
		}
		info, err := l.programs[n].Info()
		must(t, err)
		if done, ok := info.VerifiedInstructions(); ok && done > 100_000 {
			t.Errorf("%d shards: the verifier walked through %d instructions, of a million that it may", n, done)
		}
	}
	if _, err := l.program(1025); err == nil {
		t.Error("a program for more shards than slots")
	}
}

func TestLoadLeastIsChosen(t *testing.T) {
	g, l := byLoad(t, 4)
	for i, open := range []uint64{5, 7, 3, 9} {
		l.Slot(i).Open = open
	}
	// Slot 2 is the least until what is due there makes it as loaded as slot 0; then
	// they take turns, up to slot 1.
	if got := spread(t, g, 2, nil); got[2] != 2 {
		t.Errorf("of 2 connections %v, want both at slot 2", got)
	}
	if got := spread(t, g, 4, nil); got[0]+got[2] != 4 {
		t.Errorf("of 4 connections %v, want them at slots 0 and 2", got)
	}
	l.Slot(3).Open = 0
	if got := spread(t, g, 20, accepted(l)); got[3] != 20 {
		t.Errorf("of 20 connections that end at once %v, want all at slot 3", got)
	}
	l.Slot(3).Open = eventloop.Paused
	if got := spread(t, g, 8, nil); got[3] != 0 {
		t.Errorf("of 8 connections %v at a loop that accepts nothing", got)
	}
}

func TestLoadOverIPv6(t *testing.T) {
	g, l := byLoadAt(t, tcp6(t), 3)
	l.Slot(0).Open, l.Slot(2).Open = 100, 100
	if got := spread(t, g, 20, nil); got[1] != 20 {
		t.Errorf("of 20 connections %v, want all at slot 1", got)
	}
}

// Pending events weigh a quarter of a connection.
func TestLoadEventsCount(t *testing.T) {
	g, l := byLoad(t, 2)
	l.Slot(0).Busy = 3
	if got := spread(t, g, 10, accepted(l)); got[1] != 10 {
		t.Errorf("%v, want all at the loop without events", got)
	}
	l.Slot(1).Open = 1
	if got := spread(t, g, 10, accepted(l)); got[0] != 10 {
		t.Errorf("%v, want all where 3 events are less than a connection", got)
	}
}

func TestLoadTiesAreBroken(t *testing.T) {
	g, l := byLoad(t, 4)
	for i, n := range spread(t, g, 400, accepted(l)) {
		if n < 40 {
			t.Errorf("%d of 400 connections at slot %d: ties must go to any of 4", n, i)
		}
	}
}

func TestLoadStuckLoses(t *testing.T) {
	g, l := byLoad(t, 3)
	l.Slot(0).Open = 100
	turn(l, 1, time.Second)          // asleep for too long
	turn(l, 2, 500*time.Millisecond) // at one turn for too long,
	l.Slot(2).Busy = 1               // with an event
	if got := spread(t, g, 20, nil); got[0] != 20 {
		t.Errorf("%v, want all at the loop that turns", got)
	}
	turn(l, 0, lost/2)
	if got := spread(t, g, 20, nil); got[2] != 20 {
		t.Errorf("%v, want all at that which turned last: all are stuck", got)
	}
	turn(l, 1, always)
	l.Slot(1).Open = 1000
	if got := spread(t, g, 20, nil); got[1] != 20 {
		t.Errorf("%v, want all at the one that has recovered", got)
	}
}

// A loop may be at one turn for 10 ms and wait for 50; it is stuck after that.
func TestLoadStuckBounds(t *testing.T) {
	g, l := byLoad(t, 2)
	for _, c := range []struct {
		busy  uint64
		stuck time.Duration
	}{{0, stuckIdle}, {1, stuckBusy}} {
		l.Slot(0).Busy = c.busy
		l.Slot(1).Open = 100
		began := monotonic()
		l.Slot(0).Turn = uint64(began)
		for {
			at := lands(t, g)
			age := time.Duration(monotonic() - began)
			if at == 0 {
				l.Slot(0).Accepted++
				continue // it may have been chosen just before
			}
			if age <= c.stuck {
				t.Errorf("busy %d: avoided after %v, want not before %v", c.busy, age, c.stuck)
			}
			break
		}
		if got := spread(t, g, 5, nil); got[1] != 5 {
			t.Errorf("busy %d: %v, want all elsewhere", c.busy, got)
		}
	}
}

func TestLoadUnservedIsSkipped(t *testing.T) {
	g, l := byLoad(t, 3)
	l.Slot(1).Open = 1000
	l.Serve(0, false)
	l.Serve(2, false)
	if got := spread(t, g, 20, nil); got[1] != 20 {
		t.Errorf("%v, want all at the one that is served", got)
	}
	turn(l, 1, lost/2)
	if got := spread(t, g, 20, nil); got[1] != 20 {
		t.Errorf("%v, want all at the one that is served, if stuck", got)
	}
	// Where none is, the kernel's hash chooses: somebody will come for the queue. So it
	// does where none has turned for long.
	for _, served := range []bool{false, true} {
		for i := range l.Len() {
			l.Serve(i, served)
			turn(l, i, lost+time.Second)
			l.Slot(i).Due = 0
		}
		if got := spread(t, g, 60, nil); slices.Contains(got, 0) {
			t.Errorf("%v, want them everywhere", got)
		}
		for i := range l.Len() {
			if due := l.Slot(i).Due; due != 0 {
				t.Errorf("%d due at slot %d, which was never chosen", due, i)
			}
		}
	}
}

// What is due is what was steered there and not accepted; it fades.
func TestLoadDue(t *testing.T) {
	g, l := byLoad(t, 1)
	spread(t, g, 1, nil)
	e := l.Slot(0)
	if e.Due != 1 || e.Seen != 0 {
		t.Errorf("due %d, seen %d after one connection", e.Due, e.Seen)
	}
	// Epochs pass by themselves; an entry that is ahead never fades.
	ahead := uint64(monotonic())>>epochShift + 1<<20
	e.Due, e.Epoch, e.Accepted, e.Seen = 10, ahead, 7, 3
	lands(t, g)
	if e.Due != 7 || e.Seen != 7 {
		t.Errorf("due %d, seen %d; want 10 - 4 + 1, and 7", e.Due, e.Seen)
	}
	e.Due, e.Epoch, e.Accepted = 10, ahead, 100
	lands(t, g)
	if e.Due != 1 {
		t.Errorf("due %d, want 1: more was accepted than was due", e.Due)
	}
	e.Due, e.Epoch = 1000, uint64(monotonic())>>epochShift-3
	lands(t, g)
	if got := e.Due; got != 126 && got != 63 { // an epoch may just have ended
		t.Errorf("due %d, want 1000 halved three times, and 1", got)
	}
	e.Due, e.Epoch = 1<<40, 0
	lands(t, g)
	if e.Due > 1<<8+1 {
		t.Errorf("due %d, want it to have faded", e.Due)
	}
}

// 64 shards are looked at, so with more a random part of them is compared.
func TestLoadManyShards(t *testing.T) {
	g, l := byLoad(t, 130)
	for i := range l.Len() {
		l.Slot(i).Open = 50
	}
	l.Slot(129).Open = 0
	got := spread(t, g, 100, accepted(l))
	if n := got[129]; n < 20 || n > 80 {
		t.Errorf("%d of 100 at the least loaded of 130, want about half", n)
	}
}

// The loops of one worker are neighbours. However many they are, they are not all that
// the program looks at.
func TestLoadManyStuckNeighbours(t *testing.T) {
	const n = 128
	g, l := byLoad(t, n)
	for i := range n / 2 {
		turn(l, i, time.Second)
	}
	for i, got := range spread(t, g, 300, nil)[:n/2] {
		if got > 0 {
			t.Errorf("%d connections at slot %d, which is stuck", got, i)
		}
	}
	for i := range n / 2 {
		l.Serve(i, false)
	}
	for i, got := range spread(t, g, 300, nil)[:n/2] {
		if got > 0 {
			t.Errorf("%d connections at slot %d, which is not served", got, i)
		}
	}
}

// The program holds its table: it steers on when the master is gone.
func TestLoadOutlivesItsMaster(t *testing.T) {
	g := listening(t, tcp4(t), 2)
	l, err := NewLoad(2)
	if errors.Is(err, unix.EPERM) {
		t.Skipf("eBPF is not permitted here: %v", err)
	}
	must(t, err)
	fd, err := unix.FcntlInt(uintptr(l.FD()), unix.F_DUPFD_CLOEXEC, 3)
	must(t, err)
	must(t, g.SetPolicy(Policy{Kind: config.SteerLoad, Load: l}, 2))
	must(t, l.Close())
	next, err := AdoptLoad(fd, 2)
	must(t, err)
	defer next.Close()
	turn(next, 1, always)
	next.Serve(1, true)
	if got := spread(t, g, 10, nil); got[1] != 10 {
		t.Errorf("%v, want all at slot 1", got)
	}
	// The next master has its own, which replaces it in one step.
	must(t, g.SetPolicy(Policy{Kind: config.SteerLoad, Load: next}, 2))
	turn(next, 0, always)
	next.Serve(0, true)
	next.Slot(1).Open = 100
	if got := spread(t, g, 10, accepted(next)); got[0] != 10 {
		t.Errorf("%v, want all at slot 0", got)
	}
}

func TestAdoptLoadRefusesOthers(t *testing.T) {
	checkFDs(t)
	l := newLoad(t, 2)
	fd, err := unix.FcntlInt(uintptr(l.FD()), unix.F_DUPFD_CLOEXEC, 3)
	must(t, err)
	if _, err := AdoptLoad(fd, 3); err == nil {
		t.Error("3 slots of 2 are adopted")
	}
	memfd, err := unix.MemfdCreate("none", unix.MFD_CLOEXEC)
	must(t, err)
	if _, err := AdoptLoad(memfd, 1); err == nil {
		t.Error("a memfd is adopted")
	}
}

func TestLoadRetirement(t *testing.T) {
	g, l := byLoad(t, 4)
	for i := range 3 {
		l.Slot(i).Open = 1000
	}
	must(t, g.Steer(2))
	if got := spread(t, g, 40, nil); got[0]+got[1] != 40 || g.Steered() != 2 {
		t.Errorf("%v, want all at the first two", got)
	}
	must(t, g.Unsteer())
	if got := spread(t, g, 40, accepted(l)); got[3] != 40 || g.Steered() != 4 {
		t.Errorf("%v, want all at slot 3", got)
	}
	must(t, g.Steer(1))
	must(t, g.CloseDown(1))
	must(t, g.Unsteer())
	must(t, g.check())
	if got := spread(t, g, 5, nil); got[0] != 5 {
		t.Errorf("%v", got)
	}
}

func BenchmarkLoadProgram(b *testing.B) {
	for _, n := range []int{4, 64} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			l, err := NewLoad(n)
			if err != nil {
				b.Skip(err)
			}
			defer l.Close()
			for i := range n {
				l.Serve(i, true)
				turn(l, i, always)
			}
			if _, err := l.program(n); err != nil {
				b.Fatal(err)
			}
			_, each, err := l.programs[n].Benchmark(make([]byte, 64), b.N, nil)
			if err != nil {
				b.Skip(err)
			}
			b.ReportMetric(float64(each.Nanoseconds()), "ns/choice")
		})
	}
}
