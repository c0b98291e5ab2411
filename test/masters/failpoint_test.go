package masters

import (
	"fmt"
	"os"
	"testing"

	"reuseportd/internal/control"
	"reuseportd/test/harness"
	"reuseportd/test/kit"
	"reuseportd/test/meter"
)

// windows are the steps of a change that a delay or a crash can split, each
// with a change that passes it.
var windows = []struct {
	point  string
	change string
	shrink bool // the change takes workers away
}{
	{"ready-activate", "reload", false},
	{"activate-drain", "reload", false},
	{"retire-close", "reload", true},
	{"custody-sent", "upgrade", false},
	{"custody-received", "upgrade", false},
	{"ready-activate", "upgrade", false},
	{"activate-drain", "upgrade", false},
}

// Each window is held open while clients come, send and go.
func TestWindowsHeldOpen(t *testing.T) {
	for _, w := range windows {
		t.Run(w.change+" "+w.point, func(t *testing.T) {
			c := harness.Default(t).WithWorkers(3).With("start_timeout: 30s")
			s := harness.Start(t, c)
			if w.shrink {
				s.WriteConfig(c.WithWorkers(1))
			}
			kit.LosingNothing(t, kit.Clients(c), func(m *meter.Meter) {
				s.Arm(w.point, harness.Pause)
				m.Mark("%s, held at %s", w.change, w.point)
				changed := make(chan *control.Receipt, 1)
				go func() { changed <- s.Change(w.change) }()
				s.WaitHit(w.point)
				kit.SomeTime()
				m.Mark("%s, let go from %s", w.change, w.point)
				s.Disarm(w.point)
				if r := <-changed; !r.OK {
					t.Errorf("receipt %+v", r)
				}
				s.WaitStatus("the change to be over", func(st *control.Status) bool {
					return st.Change == "" && st.Generation == 2 && harness.ListenerAt(st, c.Address("web")).Retiring == 0
				})
			})
		})
	}
}

// The master dies in each window: the workers serve on, nothing is lost.
func TestMasterKilledInWindows(t *testing.T) {
	for _, w := range windows {
		t.Run(w.change+" "+w.point, func(t *testing.T) {
			c := harness.Default(t).WithWorkers(3).With("start_timeout: 30s")
			s := harness.Start(t, c)
			if w.shrink {
				s.WriteConfig(c.WithWorkers(1))
			}
			kit.LosingNothing(t, kit.Clients(c), func(m *meter.Meter) {
				s.Arm(w.point, harness.Kill)
				m.Mark("%s, master killed at %s", w.change, w.point)
				go s.Ask(w.change) // nobody may be left to answer
				pid := s.WaitHit(w.point)
				s.Wait("the master to be gone", func() bool { return harness.Gone(pid) })
				s.Disarm(w.point)
				kit.SomeTime()
			})
			if st, err := s.TryStatus(); err == nil {
				// It was the next master that died, and the old one is in
				// charge as before: it can still do everything.
				t.Logf("master %d serves on", st.PID)
				s.WriteConfig(c)
				s.Reload()
				s.Stop()
				return
			}
			if got := kit.Body(c.Address("web")); got != "hello\n" {
				t.Errorf("orphaned workers answer %q", got)
			}
			s.KillOrphans()
		})
	}
}

func TestMasterKilled(t *testing.T) {
	c := harness.Default(t)
	s := harness.Start(t, c)
	before := s.Workers()
	r := kit.LosingNothing(t, kit.Clients(c), func(m *meter.Meter) {
		m.Mark("kill -9 of the master")
		s.Kill9Master()
		kit.SomeTime()
	})
	for _, k := range r.Kinds {
		if k.Ended > 0 {
			t.Errorf("%d connections of %s clients were ended", k.Ended, k.Kind)
		}
	}
	if left := s.Processes(); fmt.Sprint(left) != fmt.Sprint(kit.Sorted(before)) {
		t.Errorf("processes %v after the master's end, want the workers %v", left, before)
	}
	s.KillOrphans()
}

// The service is what the receipts say also when a step only fails.
func TestErrorsInWindows(t *testing.T) {
	for _, w := range windows {
		if w.point == "retire-close" || w.change == "upgrade" && w.point != "custody-received" {
			continue // behind the commit point: nothing to go back to
		}
		t.Run(w.change+" "+w.point, func(t *testing.T) {
			c := harness.Default(t)
			s := harness.Start(t, c)
			before := s.WaitServing(1)
			kit.LosingNothing(t, kit.Clients(c), func(m *meter.Meter) {
				s.Arm(w.point, harness.Error)
				m.Mark("%s, error at %s", w.change, w.point)
				if r := s.Change(w.change); r.OK || r.Error == "" {
					t.Errorf("receipt %+v, want an error", r)
				}
				s.Disarm(w.point)
			})
			kit.Unchanged(t, s, before)
			s.Change(w.change)
			s.WaitServing(2)
		})
	}
}

// A new master that finds the lock of a killed one free starts, whether or not
// workers are left; where it can't have their sockets it says so.
func TestStartAfterKilledServer(t *testing.T) {
	c := harness.Default(t)
	s := harness.Start(t, c)
	s.Kill9Master()
	s.KillOrphans()
	if _, err := os.Stat(s.RuntimeDir); err != nil {
		t.Fatal(err)
	}
	s.Run()
	s.WaitServing(1)
	if got := kit.Body(c.Address("web")); got != "hello\n" {
		t.Errorf("answer %q", got)
	}
	s.Stop()
}
