package lifecycle

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"reuseportd/internal/config"
	"reuseportd/internal/control"
	"reuseportd/internal/eventloop"
)

func TestReloads(t *testing.T) {
	p := ports(t, 3)
	for _, tc := range []struct {
		name     string
		from, to *config.Config
	}{
		{"the same again", configure(2, 1, p[0]), configure(2, 1, p[0])},
		{"grow", configure(1, 1, p[0]), configure(4, 1, p[0])},
		{"shrink", configure(4, 1, p[0]), configure(1, 1, p[0])},
		{"shrink by threads", configure(2, 2, p[0]), configure(3, 1, p[0])},
		{"listener added", configure(2, 1, p[0]), configure(2, 1, p[0], p[1])},
		{"listener removed", configure(2, 1, p[0], p[1]), configure(2, 1, p[0])},
		{"listener re-addressed", configure(2, 1, p[0]), configure(2, 1, p[1])},
		{"addresses swapped", configure(2, 1, p[0], p[1]), configure(2, 1, p[1], p[0])},
		{"to exclusive", configure(3, 1, p[0]), exclusively(configure(3, 1, p[0]))},
		{"from exclusive", exclusively(configure(3, 1, p[0])), configure(3, 1, p[0])},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t)
			w.start(tc.from)
			w.settle()
			w.reload(tc.to)
			w.settle()
			if r := w.answers[0]; !r.OK || r.Generation != 2 || r.Previous != 1 {
				t.Errorf("receipt %+v", r)
			}
		})
	}
}

func TestBadConfigurationChangesNothing(t *testing.T) {
	w := newWorld(t)
	w.start(configure(2, 1, ports(t, 1)[0]))
	w.settle()
	w.reload(nil)
	w.settle()
	if r := w.answers[0]; r.OK || r.Error != "bad configuration" || r.Generation != 1 {
		t.Errorf("receipt %+v", r)
	}
	if w.core.Status().Config.Error != "bad configuration" {
		t.Error("status does not say why the configuration was refused")
	}
}

func TestWorkerNotReadyInTime(t *testing.T) {
	w := newWorld(t)
	p := ports(t, 2)
	w.start(configure(2, 1, p[0]))
	w.settle()
	w.ready = false
	w.reload(configure(3, 1, p[0], p[1]))
	w.pass(11 * time.Second)
	w.ready = true
	w.settle()
	if r := w.answers[0]; r.OK || !strings.Contains(r.Error, "start_timeout") || r.Generation != 1 {
		t.Errorf("receipt %+v", r)
	}
}

func TestSignalsAreCoalesced(t *testing.T) {
	w := newWorld(t)
	p := ports(t, 1)
	w.start(configure(2, 1, p[0]))
	w.settle()
	for range 200 {
		w.reload(configure(2, 1, p[0]))
	}
	w.settle()
	if len(w.answers) != 200 {
		t.Errorf("%d of 200 requests were answered", len(w.answers))
	}
	if id := w.core.gens[0].id; id != 3 {
		t.Errorf("generation %d serves after 200 requests at once, want 3", id)
	}
	if n := w.answers[199].Coalesced; n != 198 {
		t.Errorf("the last receipt says %d coalesced, want 198", n)
	}
}

func TestHungWorkerIsReplaced(t *testing.T) {
	w := newWorld(t)
	w.start(configure(2, 1, ports(t, 1)[0]))
	w.settle()
	hung := w.procs[0]
	w.pass(2 * time.Second) // sends the ping, which stays in the inbox
	w.pass(6 * time.Second)
	if !hung.dead {
		t.Fatal("the hung worker was not ended")
	}
	w.settle()
}

// A replacement that is alone for a while will have company.
func TestExclusiveAfterAllHaveDied(t *testing.T) {
	w := newWorld(t)
	w.start(exclusively(configure(2, 1, ports(t, 1)[0])))
	w.settle()
	w.ready = false
	for _, p := range w.procs {
		p.dead = true
		p.dies("killed")
	}
	w.procs[2].isReady()
	w.ready = true
	w.settle()
}

// A mutex is free as soon as the master hears of its holder's death, and with the
// listener its name goes.
func TestMutexOfADeadWorker(t *testing.T) {
	w := newWorld(t)
	conf := configure(2, 1, ports(t, 1)[0])
	l := &conf.Listeners[0]
	l.Accept = config.AcceptMutex
	w.start(conf)
	w.settle()
	ledger := w.core.ledger
	i, ok := ledger.Mutex(l.Key())
	if !ok {
		t.Fatal("no mutex")
	}
	word, err := ledger.Lock(i)
	if err != nil {
		t.Fatal(err)
	}
	atomic.StoreUint32(word, uint32(w.procs[0].w.pid))
	w.procs[1].dies("killed")
	if pid := eventloop.MutexHolder(word); pid != w.procs[0].w.pid {
		t.Errorf("process %d holds it", pid)
	}
	w.procs[1].dead = true
	w.procs[0].dies("killed")
	w.procs[0].dead = true
	if pid := eventloop.MutexHolder(word); pid != 0 {
		t.Errorf("process %d, which is dead, holds it", pid)
	}
	w.settle()
	w.reload(configure(1, 1, ports(t, 1)[0]))
	w.settle()
	if again, _ := ledger.Mutex("another"); again != i {
		t.Errorf("another listener gets mutex %d, want %d, which is free", again, i)
	}
}

// TestAMasterThatWasAsleepAccusesNobody: its own delay must not look like theirs.
func TestAMasterThatWasAsleepAccusesNobody(t *testing.T) {
	w := newWorld(t)
	w.start(configure(2, 1, ports(t, 1)[0]))
	w.settle()
	w.pass(2 * time.Second)
	w.core.now = w.core.now.Add(time.Minute)
	w.handle(Tick{Late: true})
	for _, p := range w.procs {
		if p.dead {
			t.Fatal("a worker was killed for the master's own sleep")
		}
	}
	w.settle()
}

func TestBackoffGrows(t *testing.T) {
	w := newWorld(t)
	w.start(configure(1, 1, ports(t, 1)[0]))
	w.settle()
	wk := w.core.gens[0].workers[0]
	w.pass(11 * time.Second)
	var waits []time.Duration
	for range 5 {
		w.handle(WorkerExited{wk.id(), "killed"})
		waits = append(waits, max(0, wk.retryAt.Sub(w.core.now)))
		w.core.now = w.core.now.Add(waits[len(waits)-1])
		w.handle(Tick{})
		if wk.state != starting {
			t.Fatalf("worker is %s when its back-off is over", wk.state)
		}
	}
	if got, want := fmt.Sprint(waits), "[0s 100ms 200ms 400ms 800ms]"; got != want {
		t.Errorf("waits %s, want %s", got, want)
	}
	w.settle()
}

func TestStop(t *testing.T) {
	w := newWorld(t)
	p := ports(t, 2)
	w.start(configure(2, 1, p[0], p[1]))
	w.settle()
	w.handle(Request{Action: "stop", Cause: CauseSignal})
	for i := 0; !w.exited && i < 10_000; i++ {
		if fs := w.actions(); len(fs) > 0 {
			fs[0]()
		} else {
			w.pass(20 * time.Millisecond)
		}
	}
	if !w.exited || w.status != 0 || len(w.core.groups) != 0 || len(w.core.gens) != 0 {
		t.Errorf("exited %v with %d; groups %v, generations %v", w.exited, w.status, w.core.groups, w.core.gens)
	}
}

// TestRandomLives has everything happen in any order: reloads to any shape,
// deaths at any point, messages handled early and late. The world checks each
// withdrawal, and the state that everything settles into.
func TestRandomLives(t *testing.T) {
	p := ports(t, 3)
	lives := uint64(60)
	if testing.Short() {
		lives = 5
	}
	for seed := range lives {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			w := newWorld(t)
			w.random = rand.New(rand.NewPCG(seed, 7))
			w.start(configure(2, 1, p[0]))
			w.settle()
			for range 400 {
				w.anything(p)
				w.checkServed()
				if t.Failed() {
					return
				}
			}
			for w.core.Conf() == nil {
				t.Fatal("no generation serves")
			}
			w.settle()
		})
	}
}

// anything lets one thing happen.
func (w *world) anything(p []int) {
	r := w.random
	switch n := r.IntN(100); {
	case n < 4:
		var some []int
		for _, port := range p {
			if r.IntN(2) == 0 {
				some = append(some, port)
			}
		}
		if len(some) == 0 {
			some = p[:1]
		}
		conf := configure(1+r.IntN(4), 1+r.IntN(2), some...)
		for i := range conf.Listeners {
			l := &conf.Listeners[i]
			l.Accept = []config.Accept{
				config.AcceptReuseport, config.AcceptExclusive, config.AcceptMutex, config.AcceptShared,
			}[r.IntN(4)]
			if l.Accept == config.AcceptReuseport {
				l.Shards = r.IntN(3)
				l.Steering = []config.Steering{
					config.SteerHash, config.SteerCPU, config.SteerRandom, config.SteerLoad,
				}[r.IntN(4)]
				if l.Steering == config.SteerLoad {
					l.Shards = 0
				}
			}
		}
		w.reload(conf)
	case n < 7:
		if p := w.procs[r.IntN(len(w.procs))]; p.current() {
			p.dead = true // and the core hears of it later
		}
	case n < 25:
		w.pass(time.Duration(r.IntN(400)) * time.Millisecond)
	default:
		if fs := w.actions(); len(fs) > 0 {
			fs[r.IntN(len(fs))]()
		}
	}
}

// The log's line of a change that failed says who serves: at a first start, nobody does.
func TestVerdict(t *testing.T) {
	for want, r := range map[string]control.Receipt{
		"start failed: nothing serves":                {Action: "start"},
		"change failed: what served before serves on": {Action: "reload", Generation: 3},
		"change done: the new generation serves":      {Action: "start", OK: true, Generation: 1},
		"stopped: nothing is left open":               {Action: "stop", OK: true},
	} {
		if got := verdict(&r); got != want {
			t.Errorf("%+v: %q, want %q", r, got, want)
		}
	}
}
