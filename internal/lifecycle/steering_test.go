package lifecycle

import (
	"errors"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"reuseportd/internal/config"
	"reuseportd/internal/shard"
)

// served returns which slots of a generation the program may choose.
func (g *generation) served() []bool {
	var all []bool
	for i := range g.load.Len() {
		all = append(all, g.load.Slot(i).Served == 1)
	}
	return all
}

// checkServed holds that a slot counts as served only while its process accepts
// from its shards, as far as the core can know.
func (w *world) checkServed() {
	w.t.Helper()
	for _, p := range w.procs {
		g := p.w.gen
		if !p.current() || g.load == nil {
			continue
		}
		for i := range g.conf.Listeners {
			for _, s := range p.w.slots {
				l := &g.conf.Listeners[i]
				if steersByLoad(l) && g.load.Slot(s).Served == 1 && !p.has[lease{l.Key(), s, s}] {
					w.t.Errorf("slot %d of generation %d counts as served and has no shard of %s", s, g.id, l.Key())
				}
			}
		}
	}
	for _, g := range w.core.gens {
		for _, wk := range g.workers {
			for _, s := range wk.slots {
				if g.load != nil && !wk.running && g.load.Slot(s).Served == 1 {
					w.t.Errorf("slot %d of generation %d counts as served and has no process", s, g.id)
				}
			}
		}
	}
}

func loaded(workers int, port int, steering config.Steering) *config.Config {
	c := configure(workers, 1, port)
	c.Listeners[0].Steering = steering
	c.SHA256 += string(steering)
	return c
}

// A slot is served from the acknowledgement of its shards to its worker's death, and
// again from its replacement's acknowledgement.
func TestServedFollowsTheLeases(t *testing.T) {
	if l, err := shard.NewLoad(1); errors.Is(err, unix.EPERM) {
		t.Skipf("eBPF is not permitted here: %v", err)
	} else if err == nil {
		_ = l.Close()
	}
	w := newWorld(t)
	port := ports(t, 1)[0]
	conf := loaded(3, port, config.SteerLoad)
	w.start(conf)
	g := w.core.gens[0]
	if slices.Contains(g.served(), true) {
		t.Errorf("%v before anybody is ready", g.served())
	}
	w.settle()
	want := func(want ...bool) {
		t.Helper()
		if got := g.served(); !slices.Equal(got, want) {
			t.Errorf("served %v, want %v", got, want)
		}
		w.checkServed()
	}
	want(true, true, true)
	grp := w.core.groups[conf.Listeners[0].Key()]
	if grp.Policy() != config.SteerLoad || grp.Steered() != 3 {
		t.Errorf("%s over %d, want load over 3", grp.Policy(), grp.Steered())
	}
	w.procs[1].dead = true
	w.handle(WorkerExited{g.workers[1].id(), "killed"})
	want(true, false, true)
	for w.procs[3].has[lease{grp.Key(), 1, 1}] == false {
		want(true, false, true)
		fs := w.actions()
		fs[w.random.IntN(len(fs))]()
	}
	want(true, true, true)

	// Growth: the old generation's program chooses until all of the new one accepts.
	w.reload(loaded(4, port, config.SteerLoad))
	for w.core.change != nil && w.core.change.receipt == nil {
		if grp.Steered() != 3 {
			t.Errorf("steered to %d before the cut-over", grp.Steered())
		}
		w.checkServed()
		if fs := w.actions(); len(fs) > 0 {
			fs[0]()
		}
	}
	if grp.Steered() != 4 {
		t.Errorf("steered to %d at the cut-over, want 4", grp.Steered())
	}
	w.settle()
	g = w.core.gens[0]
	want(true, true, true, true)
	w.reload(loaded(1, port, config.SteerRandom))
	w.settle()
	if grp.Policy() != config.SteerRandom || grp.Steered() != 1 {
		t.Errorf("%s over %d, want random over 1", grp.Policy(), grp.Steered())
	}
}

// A retirement whose shards are wanted again is steered around until they are served.
func TestRevivedShardsWaitForTheCutOver(t *testing.T) {
	w := newWorld(t)
	port := ports(t, 1)[0]
	w.start(loaded(4, port, config.SteerHash))
	w.settle()
	grp := w.core.groups[w.conf.Listeners[0].Key()]
	w.reload(loaded(1, port, config.SteerHash))
	for grp.retiring == nil {
		fs := w.actions()
		fs[w.random.IntN(len(fs))]()
	}
	w.reload(loaded(4, port, config.SteerHash))
	seen := false
	for n := 0; w.core.serving() == nil || w.core.serving().conf != w.conf || w.core.serving().state != serving; n++ {
		if grp.retiring == nil && grp.Listening() == 4 {
			seen = true
			if grp.Steered() != 1 {
				t.Fatalf("steered to %d before the cut-over", grp.Steered())
			}
		}
		if fs := w.actions(); len(fs) > 0 {
			fs[w.random.IntN(len(fs))]()
		} else if n > 100 {
			w.pass(0)
		}
	}
	w.settle()
	if !seen {
		t.Error("the shards were gone before they were wanted")
	}
}
