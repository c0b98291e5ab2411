package masters

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"reuseportd/internal/control"
	"reuseportd/test/harness"
	"reuseportd/test/kit"
	"reuseportd/test/meter"
)

func TestTenUpgrades(t *testing.T) {
	c := harness.Default(t)
	s := harness.Start(t, c)
	binaries := []string{harness.BuildVersion(t, "next"), harness.Build(t)}
	kit.LosingNothing(t, kit.Clients(c), func(m *meter.Meter) {
		for i := range 10 {
			old := s.PID()
			s.Install(binaries[i%2])
			m.Mark("upgrade %d", i+1)
			r := s.Upgrade()
			want := []string{"next", "test"}[i%2]
			st := s.Status()
			if r.Version != want || st.Version != want || st.PID == old || r.PID != st.PID || r.Generation != uint64(i+2) {
				t.Errorf("upgrade %d from %d to version %s: receipt %+v; status says version %s, master %d",
					i+1, old, want, r, st.Version, st.PID)
			}
			if code := s.WaitPID(old); code != 0 {
				t.Errorf("master %d ended with status %d after an upgrade", old, code)
			}
		}
	})
	s.Stop()
}

func TestUpgradeBySignal(t *testing.T) {
	s := harness.Start(t, harness.Default(t))
	old := s.PID()
	s.Install(harness.BuildVersion(t, "next"))
	s.Signal(syscall.SIGUSR2)
	// The next master answers from its readiness on; its receipt is there at the cut-over.
	st := s.WaitStatus("the next version's receipt", func(st *control.Status) bool {
		return st.LastChange != nil && st.LastChange.Action == "upgrade"
	})
	if r := st.LastChange; st.Version != "next" || r.Version != "next" || !r.OK {
		t.Errorf("version %s, receipt %+v", st.Version, r)
	}
	s.WaitPID(old)
	s.WaitServing(2)
}

func TestUpgradeCommand(t *testing.T) {
	s := harness.Start(t, harness.Default(t))
	s.Install(harness.BuildVersion(t, "next"))
	r := s.CLI("upgrade", "--json")
	if receipt := kit.ParseReceipt(t, r.Stdout); r.Code != 0 || !receipt.OK || receipt.Version != "next" || receipt.Action != "upgrade" {
		t.Errorf("upgrade --json: status %d: %+v %s", r.Code, receipt, r.Stderr)
	}
}

// Who upgrades by a script and then asks gets an answer, from either master.
func TestCommandsRightAfterUpgrade(t *testing.T) {
	s := harness.Start(t, harness.Default(t))
	for i := range 4 {
		if r := s.CLI("upgrade"); r.Code != 0 {
			t.Fatalf("upgrade %d: status %d: %s%s", i, r.Code, r.Stdout, r.Stderr)
		}
		command := []string{"status", "reload"}[i%2]
		if r := s.CLI(command, "--json"); r.Code != 0 {
			t.Errorf("%s right after upgrade %d: status %d: %s%s", command, i, r.Code, r.Stdout, r.Stderr)
		}
	}
}

// A request that meets the old master on its way out is answered, if only by a
// refusal that tells the client to ask again: it is never left in the dark.
func TestRequestsRightAfterUpgrade(t *testing.T) {
	s := harness.Start(t, harness.Default(t))
	for i := range 15 {
		s.Upgrade()
		err := s.Ask("status")
		var refused *control.RefusedError
		if err != nil && (!errors.As(err, &refused) || refused.Text != control.ErrSuperseded) {
			t.Errorf("right after upgrade %d: %v", i, err)
		}
	}
}

// A client of the first generation is served, byte for byte, through twenty
// masters.
func TestTwentyUpgradesOverOneStream(t *testing.T) {
	c := harness.Default(t).With("drain_timeout: 5m")
	s := harness.Start(t, c)
	stream := kit.Dial(t, c.Address("echo"))
	stream.Echo("the first generation")
	first := s.Workers()
	for i := range 20 {
		s.Upgrade()
		stream.Echo(fmt.Sprintf("upgrade %d", i+1))
	}
	st := s.Status()
	if st.Generation != 21 {
		t.Errorf("generation %d after 20 upgrades", st.Generation)
	}
	// Its client has not gone, and yet only one generation is left.
	s.WaitServing(21)
	for _, pid := range first {
		if !harness.Gone(pid) {
			t.Errorf("worker %d of the first generation is still there", pid)
		}
	}
	stream.Echo("the last generation")
	stream.CloseWrite()
	stream.WantEOF()
	s.Stop()
}

// Reloads, upgrades and worker counts, one after another.
func TestMixedChanges(t *testing.T) {
	c := harness.Default(t)
	s := harness.Start(t, c)
	kit.LosingNothing(t, kit.Clients(c), func(m *meter.Meter) {
		for i, n := range []int{4, 1, 3} {
			s.WriteConfig(c.WithWorkers(n))
			m.Mark("upgrade to %d workers", n)
			s.Upgrade()
			m.Mark("reload after it, %d", i)
			s.Reload()
		}
	})
}

// After a failed upgrade nothing has changed for anybody, and the receipt, the
// status and the exit status say why.
func TestFailingUpgrades(t *testing.T) {
	for _, tt := range []struct {
		variant harness.Variant
		says    string
	}{
		{harness.Missing, "there is no such file"},
		{harness.NotExecutable, "it is not executable"},
		{harness.Garbage, "exec format"},
		{harness.Exits, "exit"},
		{harness.Crashes, "segmentation"},
		{harness.Hangs, "start_timeout"},
	} {
		t.Run(string(tt.variant), func(t *testing.T) {
			c := harness.Default(t).With("start_timeout: 3s")
			s := harness.Start(t, c)
			before := s.WaitServing(1)
			s.Replace(tt.variant)
			mc := kit.Clients(c)
			mc.Burst, mc.BurstPause = 200, mc.BurstPause/2
			r := kit.LosingNothing(t, mc, func(m *meter.Meter) {
				m.Mark("upgrade to a binary: %s", tt.variant)
				if r := s.Change("upgrade"); r.OK || !strings.Contains(strings.ToLower(r.Error), tt.says) || r.PID != before.PID {
					t.Errorf("receipt %+v, want an error about %s", r, tt.says)
				}
				cli := s.CLIFrom(harness.Build(t), "upgrade")
				if cli.Code != 1 || !strings.Contains(strings.ToLower(cli.Stdout+cli.Stderr), tt.says) {
					t.Errorf("upgrade: status %d: %s%s", cli.Code, cli.Stdout, cli.Stderr)
				}
			})
			for _, k := range r.Kinds {
				if k.Ended > 0 {
					t.Errorf("%d connections of %s clients were ended", k.Ended, k.Kind)
				}
			}
			kit.Unchanged(t, s, before)
			if st := s.Status(); st.LastChange == nil || st.LastChange.OK || st.LastChange.Action != "upgrade" {
				t.Errorf("last change %+v", st.LastChange)
			}
			// A good one works yet, and so does a reload.
			s.Install(harness.BuildVersion(t, "next"))
			s.Reload()
			if r := s.Upgrade(); r.Version != "next" {
				t.Errorf("receipt of the good upgrade: %+v", r)
			}
		})
	}
}

func TestUpgradeThatDislikesTheConfiguration(t *testing.T) {
	c := harness.Default(t)
	s := harness.Start(t, c)
	before := s.WaitServing(1)
	s.WriteConfigText(c.String() + "wrokers: 2\n")
	kit.LosingNothing(t, kit.Clients(c), func(m *meter.Meter) {
		m.Mark("upgrade with a bad configuration")
		if r := s.Change("upgrade"); r.OK || !strings.Contains(r.Error, "wrokers") {
			t.Errorf("receipt %+v, want an error about wrokers", r)
		}
	})
	kit.Unchanged(t, s, before)
	s.WriteConfig(c)
	s.Upgrade()
}

func TestUpgradeWhoseWorkersDoNotStart(t *testing.T) {
	for _, action := range []string{harness.Exit, harness.Pause} {
		t.Run(action, func(t *testing.T) {
			c := harness.Default(t).With("start_timeout: 3s")
			s := harness.Start(t, c)
			before := s.WaitServing(1)
			kit.LosingNothing(t, kit.Clients(c), func(m *meter.Meter) {
				m.Mark("upgrade with workers that %s", action)
				s.Arm("worker-start", action)
				if r := s.Change("upgrade"); r.OK || r.Error == "" {
					t.Errorf("receipt %+v, want an error", r)
				}
				s.Disarm("worker-start")
			})
			kit.Unchanged(t, s, before)
			s.Upgrade()
		})
	}
}

// A respawn in the middle of a deployment doesn't run half an upgrade: workers
// are of the master's image, whatever the file is by now.
func TestRespawnRunsTheOldImage(t *testing.T) {
	c := harness.Default(t)
	s := harness.Start(t, c)
	pid := s.Workers()[0]
	s.Replace(harness.Exits)
	kit.Must(t, syscall.Kill(pid, syscall.SIGKILL))
	s.WaitStatus("the replacement", func(st *control.Status) bool {
		all := kit.Workers(st)
		_, there := all[pid]
		return len(all) == 2 && !there
	})
	if got := kit.Body(c.Address("web")); got != "hello\n" {
		t.Errorf("answer %q", got)
	}
}

// Nothing that is only for the next master may reach the workers.
func TestWorkersDoNotInherit(t *testing.T) {
	s := harness.Start(t, harness.Default(t))
	s.Upgrade()
	for _, pid := range s.Workers() {
		env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		kit.Must(t, err)
		if strings.Contains(string(env), "TABLEFLIP") {
			t.Errorf("worker %d has tableflip's mark in its environment", pid)
		}
	}
}

// Past the commit point there is no old master to go back to, but there is its
// generation: when the new one fails before the cut-over, the old one serves on
// under the new master, which can replace its dead and be asked again.
func TestUpgradeThatFailsPastTheCommitPoint(t *testing.T) {
	for _, point := range []string{"ready-activate", "activate-drain"} {
		t.Run(point, func(t *testing.T) {
			c := harness.Default(t)
			s := harness.Start(t, c)
			before := s.WaitServing(1)
			kit.LosingNothing(t, kit.Clients(c), func(m *meter.Meter) {
				s.Arm(point, harness.Error)
				m.Mark("upgrade, error at %s", point)
				if r := s.Change("upgrade"); r.OK || !strings.Contains(r.Error, point) || r.Generation != 1 || r.PID == before.PID {
					t.Errorf("receipt %+v, want an error, generation 1 and another master than %d", r, before.PID)
				}
				s.Disarm(point)
				now := s.WaitServing(1)
				if fmt.Sprint(kit.Pids(now)) != fmt.Sprint(kit.Pids(before)) || now.Generation != 1 {
					t.Errorf("generation %d, workers %v serve, want 1, %v", now.Generation, kit.Pids(now), kit.Pids(before))
				}
			})
			kit.Must(t, syscall.Kill(kit.Pids(before)[0], syscall.SIGKILL))
			s.WaitStatus("the dead worker to be replaced", func(st *control.Status) bool {
				g := harness.Serving(st)
				return g != nil && g.ID == 1 && len(g.Workers) == len(kit.Pids(before)) && g.Workers[0].Restarts == 1
			})
			if got := kit.Body(c.Address("web")); got != "hello\n" {
				t.Errorf("answer %q", got)
			}
			if r := s.Upgrade(); r.Previous != 1 {
				t.Errorf("receipt of the next upgrade %+v", r)
			}
		})
	}
}

// A Unix socket whose file somebody has removed is made anew by the next reload,
// and by the next upgrade.
func TestLostSocketFile(t *testing.T) {
	c := harness.Default(t)
	s := harness.Prepare(t, c)
	address := "unix:" + filepath.Join(s.Dir, "echo.sock")
	s.WriteConfig(c.WithListeners(c.Listeners[0], harness.Echo("local", address)))
	s.Run()
	s.WaitServing(1)
	for _, change := range []string{"reload", "upgrade"} {
		kit.Must(t, os.Remove(strings.TrimPrefix(address, "unix:")))
		if r := s.Change(change); !r.OK {
			t.Fatalf("%s: %+v", change, r)
		}
		kit.Dial(t, address).Echo("hello after " + change)
	}
}

// A script may stand at the master's path and execute another file each time: the path is what upgrades run.
func TestUpgradesThroughScript(t *testing.T) {
	s := harness.Start(t, harness.Default(t))
	for i, version := range []string{"next", "test", "next"} {
		release := filepath.Join(s.Dir, fmt.Sprint("release", i), "reuseportd")
		kit.Must(t, os.Mkdir(filepath.Dir(release), 0o755))
		kit.Must(t, os.Link(harness.BuildVersion(t, version), release))
		next := s.Script(fmt.Sprintf(`exec %s "$@"`, release))
		kit.Must(t, os.Rename(next, s.Binary))
		if r := s.Upgrade(); r.Version != version {
			t.Errorf("upgrade %d is to version %s, want %s", i+1, r.Version, version)
		}
	}
	s.Stop()
}
