package masters

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"reuseportd/internal/control"
	"reuseportd/test/harness"
	"reuseportd/test/kit"
	"reuseportd/test/meter"
)

func TestTakeover(t *testing.T) {
	c, mc := everyone(t)
	s := harness.Start(t, c)
	watched := s.WatchTotals()
	kit.LosingNothing(t, mc, func(m *meter.Meter) {
		for i := range 3 {
			m.Mark("takeover %d", i+1)
			if st := kit.TakesOver(t, s); len(st.Receipts) != i+2 {
				t.Errorf("%d receipts after %d takeovers", len(st.Receipts), i+1)
			}
		}
		m.Mark("reload and upgrade")
		s.Reload()
		s.Upgrade()
		m.Mark("takeover from an upgraded master")
		kit.TakesOver(t, s)
	})
	watched()
	s.Stop()
}

// The configuration is the new master's.
func TestTakeoverWithAnotherConfiguration(t *testing.T) {
	c := harness.Default(t)
	s := harness.Start(t, c)
	added := harness.Answer("added", harness.Local(t), "added")
	mc := kit.Clients(c)
	mc.Strict = true
	kit.LosingNothing(t, mc, func(m *meter.Meter) {
		s.WriteConfig(c.WithWorkers(4).WithListeners(append(c.Listeners[:2:2], added)...))
		m.Mark("takeover with a listener and two workers more")
		kit.TakesOver(t, s)
		if got := kit.Body(added.Address); got != "added\n" {
			t.Errorf("answer %q", got)
		}
		s.WriteConfig(c.WithWorkers(1))
		m.Mark("takeover with less")
		kit.TakesOver(t, s)
	})
	s.Wait("the removed address to be closed", func() bool { return kit.Refused(added.Address) })
	s.Stop()
}

func TestTakeoverOfNothing(t *testing.T) {
	s := harness.Prepare(t, harness.Default(t))
	s.Run(func(_ *harness.Server, cmd *exec.Cmd) { cmd.Args = append(cmd.Args, "--takeover") })
	if st := s.WaitServing(1); st.LastChange.Action != "start" {
		t.Errorf("last change %+v", st.LastChange)
	}
	s.Stop()
}

// Without a word of it there is no takeover.
func TestNoTakeoverUnasked(t *testing.T) {
	s := harness.Start(t, harness.Default(t))
	before := s.WaitServing(1)
	m := s.RunMaster()
	if code := m.WaitExit(); code != 1 || !strings.Contains(m.Log(), fmt.Sprintf("locked by PID %d", before.PID)) {
		t.Errorf("it ended with %d: %s", code, m.Log())
	}
	kit.Unchanged(t, s, before)
	s.Stop()
}

// A takeover that is asked for during a reload comes after it.
func TestTakeoverDuringReload(t *testing.T) {
	for _, point := range []string{"worker-ready", "ready-activate", "activate-drain"} {
		t.Run(point, func(t *testing.T) {
			c, mc := everyone(t)
			s := harness.Start(t, c)
			kit.LosingNothing(t, mc, func(m *meter.Meter) {
				s.Arm(point, harness.Pause)
				reloaded := make(chan *control.Receipt, 1)
				m.Mark("reload, held at %s", point)
				go func() { reloaded <- s.Change("reload") }()
				s.WaitHit(point)
				m.Mark("takeover during the reload")
				master := s.RunMaster("--takeover")
				kit.SomeTime()
				s.Disarm(point)
				if r := <-reloaded; !r.OK || r.Generation != 2 {
					t.Errorf("receipt of the reload %+v", r)
				}
				st := s.WaitAlone(master.PID())
				if st.Generation != 3 || len(st.Receipts) != 3 {
					t.Errorf("generation %d, receipts %+v", st.Generation, st.Receipts)
				}
			})
			s.Stop()
		})
	}
}

// The new master of a takeover fails before it is ready, in every way: for the
// old one and its workers nothing has changed, and the next takeover succeeds.
func TestFailingTakeovers(t *testing.T) {
	type failure struct {
		name, point, action string
		status              int // of the new master
	}
	failures := []failure{{name: "broken configuration", status: 1}}
	for _, point := range []string{"worker-start", "worker-ready"} {
		failures = append(failures, failure{"workers exit at " + point, point, harness.Exit, 1})
	}
	failures = append(failures, failure{"killed at custody-received", "custody-received", harness.Kill, -1},
		failure{"error at custody-received", "custody-received", harness.Error, 1})
	for _, f := range failures {
		t.Run(f.name, func(t *testing.T) {
			c, mc := everyone(t)
			s := harness.Start(t, c)
			before := s.WaitServing(1)
			kit.LosingNothing(t, mc, func(m *meter.Meter) {
				if f.point == "" {
					s.WriteConfigText(c.String() + "wrokers: 2\n")
				} else {
					s.Arm(f.point, f.action)
				}
				m.Mark("takeover, %s", f.name)
				master := s.RunMaster("--takeover")
				if code := master.WaitExit(); code != f.status {
					t.Errorf("the new master ended with %d, want %d: %s", code, f.status, master.Log())
				}
				s.WaitStatus("the takeover to be over", func(st *control.Status) bool {
					return st.Change == "" && st.LastChange.Action == "takeover" && !st.LastChange.OK && st.LastChange.Error != ""
				})
				if f.point != "" {
					s.Disarm(f.point)
				}
				s.WriteConfig(c)
			})
			kit.Unchanged(t, s, before)
			if pid := s.PIDFile(); pid != before.PID {
				t.Errorf("the PID file says %d, the master is %d", pid, before.PID)
			}
			m := s.RunMaster()
			if m.WaitExit(); !strings.Contains(m.Log(), fmt.Sprintf("locked by PID %d", before.PID)) {
				t.Errorf("who has the lock? %s", m.Log())
			}
			s.Reload()
			kit.TakesOver(t, s)
			s.Stop()
		})
	}
}

// Killed while its workers get ready, the new master leaves nothing behind.
func TestTakingMasterKilledWhileItGetsReady(t *testing.T) {
	for _, point := range []string{"worker-start", "worker-ready"} {
		t.Run(point, func(t *testing.T) {
			c, mc := everyone(t)
			s := harness.Start(t, c)
			before := s.WaitServing(1)
			kit.LosingNothing(t, mc, func(m *meter.Meter) {
				s.Arm(point, harness.Pause)
				master := s.RunMaster("--takeover")
				s.WaitHit(point)
				m.Mark("kill -9 of the new master, its workers at %s", point)
				master.Kill()
				s.Disarm(point)
				s.WaitStatus("the takeover to be over", func(st *control.Status) bool { return st.Change == "" && !st.LastChange.OK })
				s.Wait("its workers to be gone", func() bool { return len(s.AllWorkers()) == 2 })
			})
			kit.Unchanged(t, s, before)
			kit.TakesOver(t, s)
			s.Stop()
		})
	}
}

// Killed behind the commit point, the new master leaves workers that the next
// one adopts.
func TestTakingMasterKilledPastTheCommitPoint(t *testing.T) {
	for _, point := range []string{"ready-activate", "activate-drain"} {
		t.Run(point, func(t *testing.T) {
			c, mc := everyone(t)
			s := harness.Start(t, c)
			old := s.PID()
			kit.LosingNothing(t, mc, func(m *meter.Meter) {
				s.Arm(point, harness.Kill)
				m.Mark("takeover, the new master killed at %s", point)
				master := s.RunMaster("--takeover")
				master.WaitExit()
				s.Disarm(point)
				if code := s.WaitPID(old); code != 1 {
					t.Errorf("the old master ended with %d, want 1: nobody has taken its place", code)
				}
				m.Mark("new master")
				kit.Adopts(t, s)
			})
			s.Stop()
		})
	}
}

// The old master of a takeover dies on the way: the new one goes on.
func TestOldMasterKilledDuringTakeover(t *testing.T) {
	for _, point := range []string{"worker-ready", "custody-sent", "custody-received", "ready-activate", "activate-drain"} {
		t.Run(point, func(t *testing.T) {
			c, mc := everyone(t)
			s := harness.Start(t, c)
			old := s.PID()
			watched := s.WatchTotals()
			kit.LosingNothing(t, mc, func(m *meter.Meter) {
				s.Arm(point, harness.Pause)
				master := s.RunMaster("--takeover")
				s.WaitHit(point)
				m.Mark("kill -9 of the old master at %s", point)
				kit.Must(t, syscall.Kill(old, syscall.SIGKILL))
				s.WaitPID(old)
				s.Disarm(point)
				if st := s.WaitAlone(master.PID()); st.Generation != 2 || !st.LastChange.OK {
					t.Errorf("generation %d, last change %+v", st.Generation, st.LastChange)
				}
				if pid := s.PIDFile(); pid != master.PID() {
					t.Errorf("the PID file says %d, the master is %d", pid, master.PID())
				}
			})
			watched()
			s.Reload()
			s.Stop()
		})
	}
}

// A new master that hangs before it is ready is given up after start_timeout; when
// it comes to itself it finds that, and touches nothing.
func TestTakingMasterHangs(t *testing.T) {
	for _, point := range []string{"worker-ready", "custody-received"} {
		t.Run(point, func(t *testing.T) {
			c, mc := everyone(t)
			c = c.With("start_timeout: 2s")
			s := harness.Start(t, c)
			before := s.WaitServing(1)
			kit.LosingNothing(t, mc, func(m *meter.Meter) {
				s.Arm(point, harness.Pause)
				master := s.RunMaster("--takeover")
				s.WaitHit(point)
				m.Mark("SIGSTOP of the new master at %s", point)
				harness.StopProcess(t, master.PID())
				s.Disarm(point)
				s.WaitStatus("the takeover to be given up", func(st *control.Status) bool {
					return st.Change == "" && st.LastChange.Action == "takeover" && !st.LastChange.OK
				})
				kit.Unchanged(t, s, before)
				m.Mark("SIGCONT")
				harness.ContinueProcess(t, master.PID())
				if code := master.WaitExit(); code != 1 {
					t.Errorf("it ended with %d: %s", code, master.Log())
				}
				s.Wait("its workers to be gone", func() bool { return len(s.AllWorkers()) == 2 })
			})
			kit.Unchanged(t, s, before)
			if pid := s.PIDFile(); pid != before.PID {
				t.Errorf("the PID file says %d, the master is %d", pid, before.PID)
			}
			s.Reload()
			kit.TakesOver(t, s)
			s.Stop()
		})
	}
}

// Two that ask at once take over one after the other.
func TestTwoTakeoversAtOnce(t *testing.T) {
	c, mc := everyone(t)
	s := harness.Start(t, c)
	kit.LosingNothing(t, mc, func(m *meter.Meter) {
		s.Arm("ready-activate", harness.Pause)
		go s.Ask("reload")
		s.WaitHit("ready-activate")
		m.Mark("two takeovers")
		a, b := s.RunMaster("--takeover"), s.RunMaster("--takeover")
		kit.SomeTime() // both have asked
		s.Disarm("ready-activate")
		s.Wait("one of them to have gone again", func() bool { return a.Exited() || b.Exited() })
		if b.Exited() {
			a, b = b, a
		}
		if code := a.WaitExit(); code != 0 {
			t.Errorf("master %d ended with %d: %s", a.PID(), code, a.Log())
		}
		if st := s.WaitAlone(b.PID()); st.Generation != 4 {
			t.Errorf("generation %d, want 4: one of the reload, two of the takeovers", st.Generation)
		}
	})
	s.Stop()
}

// Custody is given to the master's own user only.
func TestTakeoverByAnotherUser(t *testing.T) {
	setpriv, err := exec.LookPath("setpriv")
	if os.Geteuid() != 0 || err != nil {
		t.Skip("needs root and setpriv")
	}
	c := harness.Default(t)
	s := harness.Start(t, c)
	before := s.WaitServing(1)
	ask := func(extra ...string) string {
		m := s.RunMasterBy(func(cmd *exec.Cmd) {
			cmd.Path = setpriv
			cmd.Args = append([]string{setpriv, "--reuid=nobody", "--regid=nogroup", "--clear-groups"}, cmd.Args...)
		}, append(extra, "--takeover")...)
		if code := m.WaitExit(); code != 1 {
			t.Errorf("it ended with %d", code)
		}
		return m.Log()
	}
	if text := ask(); !strings.Contains(text, "belongs to uid 0") {
		t.Errorf("it says %s", text)
	}
	if text := ask("--unsafe-runtime-dir"); !strings.Contains(text, "permission denied") {
		t.Errorf("it says %s", text)
	}
	// Nor when somebody has opened the door.
	socket := control.SocketPath(s.RuntimeDir)
	kit.Must(t, os.Chmod(s.RuntimeDir, 0o755))
	kit.Must(t, os.Chmod(socket, 0o666))
	if text := ask("--unsafe-runtime-dir"); !strings.Contains(text, "permission denied") {
		t.Errorf("it says %s", text)
	}
	kit.Unchanged(t, s, before)
	rescues, err := filepath.Glob(filepath.Join(s.RuntimeDir, "worker-*.sock"))
	if err != nil || len(rescues) != 2 {
		t.Fatalf("rescues %v, %v", rescues, err)
	}
	for _, path := range rescues {
		info, err := os.Stat(path)
		kit.Must(t, err)
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
	}
	s.Stop()
}
