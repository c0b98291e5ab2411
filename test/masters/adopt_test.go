package masters

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"reuseportd/internal/control"
	"reuseportd/test/harness"
	"reuseportd/test/kit"
	"reuseportd/test/meter"
)

// everyone is a configuration and a strict meter for it with clients of every
// kind, silent ones and downloads included.
func everyone(t *testing.T) (harness.Config, meter.Config) {
	t.Helper()
	dir := randomFile(t, "big.bin", 8<<20)
	c := harness.Default(t)
	c = c.WithListeners(site("web", c.Address("web"), "hello", dir), c.Listeners[1])
	mc := kit.Clients(c)
	mc.Strict = true
	mc.Burst = 100
	mc.Idle = 200
	mc.Download, mc.DownloadRate = 1, 1<<20
	mc.DownloadPath, mc.DownloadFile = "/files/big.bin", filepath.Join(dir, "big.bin")
	return c, mc
}

func TestAdoption(t *testing.T) {
	c, mc := everyone(t)
	s := harness.Start(t, c)
	receipt := s.Reload()
	s.WaitServing(2)
	watched := s.WatchTotals()
	kit.LosingNothing(t, mc, func(m *meter.Meter) {
		for i := range 3 {
			m.Mark("kill -9 of the master, %d", i+1)
			s.Kill9Master()
			m.Mark("new master, %d", i+1)
			st := kit.Adopts(t, s)
			if n := uint64(3 + i); st.Generation != n || len(st.Receipts) != int(n) {
				t.Errorf("generation %d, %d receipts; want %d of both", st.Generation, len(st.Receipts), n)
			}
			if kept := st.Receipts[1]; kept.Action != "reload" || !kept.Started.Equal(receipt.Started) || kept.PID != receipt.PID {
				t.Errorf("the reload's receipt has become %+v, was %+v", kept, receipt)
			}
		}
	})
	if n := watched(); n < 10 {
		t.Errorf("%d samples of the totals", n)
	}
	s.Upgrade()
	s.Stop()
}

// Everybody who is told of a change, whoever is its master at which point, loses
// nothing when that master dies there and another one is started.
func TestAdoptionAfterDeathInWindows(t *testing.T) {
	all := windows
	for _, change := range []string{"reload", "upgrade"} { // nothing else can go wrong there
		for _, point := range []string{"record-write", "record-written"} {
			w := windows[0]
			w.change, w.point = change, point
			all = append(slices.Clone(all), w)
		}
	}
	for _, w := range all {
		t.Run(w.change+" "+w.point, func(t *testing.T) {
			c, mc := everyone(t)
			c = c.WithWorkers(3)
			s := harness.Start(t, c)
			if w.shrink {
				s.WriteConfig(c.WithWorkers(1))
			}
			watched := s.WatchTotals()
			kit.LosingNothing(t, mc, func(m *meter.Meter) {
				s.Arm(w.point, harness.Kill)
				m.Mark("%s, master killed at %s", w.change, w.point)
				go s.Ask(w.change) // nobody may be left to answer
				pid := s.WaitHit(w.point)
				s.Wait("the master to be gone", func() bool { return harness.Gone(pid) })
				s.Disarm(w.point)
				if st, err := s.TryStatus(); err == nil && w.change == "upgrade" {
					m.Mark("master %d serves on", st.PID)
					s.WaitMaster(st.PID)
					s.Kill9Master()
				}
				s.Wait("no master to be left", func() bool { return len(s.AllWorkers()) == len(s.Processes()) })
				s.Wait("the first one's last thread, which has the lock", func() bool { return harness.Gone(s.FirstPID()) })
				m.Mark("new master")
				kit.Adopts(t, s)
			})
			watched()
			s.Reload()
			s.Stop()
		})
	}
}

// The old master of an upgrade dies while the next one is at some point: that one
// goes on, with the workers that it has been given or finds.
func TestOldMasterKilledDuringUpgrade(t *testing.T) {
	for _, point := range []string{"worker-start", "worker-ready", "custody-received", "ready-activate", "activate-drain"} {
		t.Run(point, func(t *testing.T) {
			c, mc := everyone(t)
			s := harness.Start(t, c)
			old := s.PID()
			watched := s.WatchTotals()
			kit.LosingNothing(t, mc, func(m *meter.Meter) {
				s.Arm(point, harness.Pause)
				m.Mark("upgrade, the next master at %s", point)
				go s.Ask("upgrade") // nobody is left to answer
				s.WaitHit(point)
				m.Mark("kill -9 of the old master, the next one at %s", point)
				kit.Must(t, syscall.Kill(old, syscall.SIGKILL))
				s.WaitPID(old)
				s.Disarm(point)
				st := s.WaitStatus("the next master to be alone", func(st *control.Status) bool {
					return st.PID != old && st.Change == "" && harness.Serving(st) != nil && len(st.Groups) == 1
				})
				if st.Generation != 2 || !st.LastChange.OK {
					t.Errorf("generation %d, last change %+v", st.Generation, st.LastChange)
				}
				if pid := s.PIDFile(); pid != st.PID {
					t.Errorf("the PID file says %d, the master is %d", pid, st.PID)
				}
			})
			watched()
			s.Reload()
			s.Upgrade()
			s.Stop()
		})
	}
}

// Both masters of an upgrade die, the next one at its points and the old one with
// it.
func TestBothMastersKilledDuringUpgrade(t *testing.T) {
	for _, point := range []string{"worker-start", "worker-ready", "custody-sent", "custody-received", "ready-activate", "activate-drain"} {
		t.Run(point, func(t *testing.T) {
			c, mc := everyone(t)
			s := harness.Start(t, c)
			kit.LosingNothing(t, mc, func(m *meter.Meter) {
				s.Arm(point, harness.Pause)
				m.Mark("upgrade, held at %s", point)
				go s.Ask("upgrade") // nobody is left to answer
				s.WaitHit(point)
				m.Mark("kill -9 of both masters at %s", point)
				workers := make(map[int]bool)
				for _, pid := range s.AllWorkers() {
					workers[pid] = true
				}
				var masters []int
				for _, pid := range s.Processes() {
					if !workers[pid] {
						masters = append(masters, pid)
					}
				}
				s.KillWorkers(masters...)
				s.Disarm(point)
				m.Mark("new master")
				kit.Adopts(t, s)
			})
			s.Stop()
		})
	}
}

// The master that adopts dies as it does.
func TestAdoptingMasterKilled(t *testing.T) {
	// So many die one after another. An orphan that answers must have noticed
	// before it can be held again.
	masters := map[string]int{
		"adopt-received": 2, "adopt-answer": 1, "worker-start": 2, "worker-ready": 2, "ready-activate": 2, "activate-drain": 2,
	}
	for point := range masters {
		t.Run(point, func(t *testing.T) {
			c, mc := everyone(t)
			s := harness.Start(t, c)
			receipts := len(s.Status().Receipts)
			watched := s.WatchTotals()
			kit.LosingNothing(t, mc, func(m *meter.Meter) {
				m.Mark("kill -9 of the master")
				s.Kill9Master()
				for range masters[point] {
					s.Arm(point, harness.Pause)
					master := s.RunMaster()
					s.WaitHit(point)
					m.Mark("kill -9 of the next one while %s", point)
					master.Kill()
					s.Disarm(point)
				}
				m.Mark("new master")
				if st := kit.Adopts(t, s); len(st.Receipts) <= receipts {
					t.Errorf("%d receipts are left, there were %d and one more", len(st.Receipts), receipts)
				}
			})
			watched()
			s.Stop()
		})
	}
}

// Of a worker that dies while there is no master only its own connections are
// lost; its address is served on, and its place is filled by the next generation.
func TestAdoptionAfterWorkerDied(t *testing.T) {
	c := harness.Default(t)
	s := harness.Start(t, c)
	var conns []*kit.Client
	for range 40 {
		conn := kit.Dial(t, c.Address("echo"))
		conn.Echo("hello")
		conns = append(conns, conn)
	}
	st := s.WaitStatus("all to be counted", func(st *control.Status) bool { return st.Totals.Accepted == 40 })
	var victim control.Worker
	for _, w := range kit.Workers(st) {
		victim = w
	}
	s.Kill9Master()
	s.KillWorkers(victim.PID)
	kit.LosingNothing(t, kit.Clients(c), func(m *meter.Meter) {
		m.Mark("new master")
		kit.Adopts(t, s)
	})
	lost := 0
	for i, conn := range conns {
		conn.Soon()
		text := fmt.Sprintf("still there %d", i)
		if _, err := conn.Write([]byte(text)); err == nil {
			got := make([]byte, len(text))
			if _, err := conn.R.Read(got); err == nil && string(got) == text {
				continue
			}
		}
		lost++
	}
	for _, conn := range conns {
		conn.Close()
	}
	if lost != int(victim.Connections) {
		t.Errorf("%d connections are lost, the killed worker had %d", lost, victim.Connections)
	}
	s.Stop()
}

// Two masters are started at once, on orphans or on nothing: one has the lock, the
// other says so.
func TestTwoMastersAtOnce(t *testing.T) {
	for _, orphans := range []bool{true, false} {
		t.Run(fmt.Sprintf("orphans %t", orphans), func(t *testing.T) {
			c, mc := everyone(t)
			s := harness.Prepare(t, c)
			race := func(a, b *harness.Master) {
				s.Wait("one of them to give up", func() bool { return a.Exited() || b.Exited() })
				if a.Exited() {
					a, b = b, a
				}
				if code := b.WaitExit(); code != 1 || !strings.Contains(b.Log(), fmt.Sprintf("locked by PID %d", a.PID())) {
					t.Errorf("the second master ended with %d: %s", code, b.Log())
				}
				s.WaitAlone(a.PID())
			}
			s.Run()
			if !orphans {
				race(s.First(), s.RunMaster())
				s.Stop()
				return
			}
			s.WaitServing(1)
			kit.LosingNothing(t, mc, func(m *meter.Meter) {
				m.Mark("kill -9 of the master")
				s.Kill9Master()
				m.Mark("two new masters")
				race(s.RunMaster(), s.RunMaster())
			})
			s.Stop()
		})
	}
}

// The new master has its own idea of what is to be served.
func TestAdoptionWithAnotherConfiguration(t *testing.T) {
	c := harness.Default(t)
	added := harness.Answer("added", harness.Local(t), "added")
	for _, tt := range []struct {
		name          string
		before, after harness.Config
	}{
		{"listener added", c, c.WithListeners(append(c.Listeners[:2:2], added)...)},
		{"listener removed", c.WithListeners(append(c.Listeners[:2:2], added)...), c},
		{"1 worker to 4", c.WithWorkers(1), c.WithWorkers(4)},
		{"4 workers to 1", c.WithWorkers(4), c.WithWorkers(1)},
		{"shared to exclusive", c, exclusive(c)},
		{"exclusive to shared", exclusive(c), c},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := harness.Start(t, tt.before)
			mc := kit.Clients(c)
			mc.Strict = true
			kit.LosingNothing(t, mc, func(m *meter.Meter) {
				m.Mark("kill -9 of the master")
				s.Kill9Master()
				s.WriteConfig(tt.after)
				m.Mark("new master")
				kit.Adopts(t, s)
				m.Mark("adopted")
				s.WaitStatus("what is too much to be retired", func(st *control.Status) bool {
					for _, l := range st.Listeners {
						if l.Retiring > 0 {
							return false
						}
					}
					return len(st.Listeners) == len(tt.after.Listeners)
				})
			})
			if want, got := len(tt.after.Listeners) == 3, kit.Body(added.Address) == "added\n"; want != got {
				t.Errorf("the added listener answers: %t, want %t", got, want)
			}
			if got := len(s.Workers()); got != tt.after.Workers {
				t.Errorf("%d workers, want %d", got, tt.after.Workers)
			}
			s.Reload()
			s.Stop()
		})
	}
}

// exclusive is c with one shard for every listener.
func exclusive(c harness.Config) harness.Config {
	var all []harness.Listener
	for _, l := range c.Listeners {
		l.Service = "accept: exclusive\n    " + l.Service
		all = append(all, l)
	}
	return c.WithListeners(all...)
}

// A master that can't use the configuration says so and is gone; the orphans don't
// notice.
func TestAdoptionWithBrokenConfiguration(t *testing.T) {
	c, mc := everyone(t)
	s := harness.Start(t, c)
	before := len(s.Status().Receipts)
	kit.LosingNothing(t, mc, func(m *meter.Meter) {
		m.Mark("kill -9 of the master")
		s.Kill9Master()
		orphans := s.AllWorkers()
		s.WriteConfigText(c.String() + "wrokers: 2\n")
		m.Mark("new master with a broken configuration")
		master := s.RunMaster()
		if code := master.WaitExit(); code != 1 || !strings.Contains(master.Log(), "wrokers") {
			t.Errorf("it ended with %d: %s", code, master.Log())
		}
		if left := s.Processes(); fmt.Sprint(left) != fmt.Sprint(kit.Sorted(orphans)) {
			t.Errorf("processes %v are left, want the orphans %v", left, orphans)
		}
		s.WriteConfig(c)
		m.Mark("new master with a good one")
		if st := kit.Adopts(t, s); len(st.Receipts) != before+1 {
			t.Errorf("receipts %+v, want %d and the start", st.Receipts, before)
		}
	})
	s.Stop()
}

// A generation that does not start leaves the orphans to serve, under the new
// master, which says why and can replace their dead.
func TestAdoptionWhoseGenerationFails(t *testing.T) {
	for _, action := range []string{harness.Exit, harness.Error, harness.Pause} {
		t.Run(action, func(t *testing.T) {
			c, mc := everyone(t)
			c = c.With("start_timeout: 2s")
			s := harness.Start(t, c)
			before := kit.Sorted(s.Workers())
			watched := s.WatchTotals()
			kit.LosingNothing(t, mc, func(m *meter.Meter) {
				m.Mark("kill -9 of the master")
				s.Kill9Master()
				s.Arm("worker-start", action)
				m.Mark("new master whose workers %s", action)
				master := s.RunMaster()
				st := s.WaitStatus("the failure", func(st *control.Status) bool {
					return st.PID == master.PID() && st.Change == "" && !st.LastChange.OK
				})
				s.Disarm("worker-start")
				if st.Generation != 1 || fmt.Sprint(kit.Sorted(kit.Pids(st))) != fmt.Sprint(before) || st.LastChange.Error == "" {
					t.Errorf("workers %v of generation %d serve, want %v of 1; last change %+v", kit.Pids(st), st.Generation, before, st.LastChange)
				}
				m.Mark("reload")
				s.Reload()
			})
			watched()
			s.WaitServing(2)
			s.Stop()
		})
	}
}

// What serves on after a failed start has its dead replaced.
func TestFailedStartReplacesOrphans(t *testing.T) {
	for _, c := range []harness.Config{harness.Default(t), exclusive(harness.Default(t))} {
		s := harness.Start(t, c)
		s.Kill9Master()
		s.Arm("worker-start", harness.Exit)
		s.RunMaster()
		s.WaitStatus("the failure", func(st *control.Status) bool { return st.Change == "" && !st.LastChange.OK })
		s.Disarm("worker-start")
		for _, pid := range s.Workers() {
			s.KillWorkers(pid)
			kit.Replaced(s, pid, 2)
		}
		for range 30 {
			if got := kit.Body(c.Address("web")); got != "hello\n" {
				t.Errorf("answer %q", got)
			}
		}
		s.Reload()
		s.WaitServing(2)
		s.Stop()
	}
}

// An orphan that hangs has its connections taken by its end, and its address is
// served.
func TestStoppedOrphanIsEnded(t *testing.T) {
	c := harness.Default(t)
	s := harness.Start(t, c)
	stopped := s.Workers()[0]
	s.Kill9Master()
	harness.StopProcess(t, stopped)
	kit.Adopts(t, s)
	for range 50 {
		if got := kit.Body(c.Address("web")); got != "hello\n" {
			t.Errorf("answer %q", got)
		}
	}
	s.Stop()
}

// The same when masters that died as they waited for it have filled its queue.
func TestStoppedOrphanAfterManyMasters(t *testing.T) {
	c := harness.Default(t).WithWorkers(1)
	s := harness.Start(t, c)
	stopped := s.Workers()[0]
	s.Kill9Master()
	harness.StopProcess(t, stopped)
	for range 4 {
		m := s.RunMaster()
		s.Wait("the master to have the lock", func() bool { return lockHolder(s) == m.PID() })
		s.Wait("the master to wait for the orphan", func() bool { return connects(m.PID()) })
		m.Kill()
	}
	kit.Adopts(t, s)
	s.Stop()
}

// lockHolder is the PID in the lock's file.
func lockHolder(s *harness.Server) (pid int) {
	text, err := os.ReadFile(filepath.Join(s.RuntimeDir, "lock"))
	if err == nil {
		_, err = fmt.Sscan(string(text), &pid)
	}
	if err != nil {
		return 0
	}
	return pid
}

// connects reports whether a master holds a socket with no name of its own beside the
// control socket: a channel.
func connects(pid int) bool {
	names, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	n := 0
	for _, name := range names {
		if to, err := os.Readlink(name); err == nil && strings.HasPrefix(to, "socket:") {
			n++
		}
	}
	return n > 1
}

// A generation that drains when its master dies drains on, to the same deadline.
func TestDrainingGenerationIsAdopted(t *testing.T) {
	c := harness.Default(t).With("drain_timeout: 60s")
	gone := harness.Answer("gone", harness.Local(t), "gone")
	s := harness.Start(t, c.WithListeners(append(c.Listeners[:2:2], gone)...))
	kept := kit.Dial(t, gone.Address)
	kept.Get()
	stream := kit.Dial(t, c.Address("echo"))
	stream.Echo("hello")
	s.WriteConfig(c)
	s.Reload()
	draining := func(st *control.Status) *control.Generation {
		for i := range st.Groups {
			if g := &st.Groups[i]; g.ID == 1 && g.State == "draining" && open(st, 1) == 1 {
				return g
			}
		}
		return nil
	}
	before := draining(s.WaitStatus("all but one to have left", func(st *control.Status) bool {
		return draining(st) != nil && len(draining(st).Workers) == 1 && len(st.Listeners) == 2
	}))
	s.Kill9Master()
	m := s.RunMaster()
	st := s.WaitStatus("the new master", func(st *control.Status) bool {
		return st.PID == m.PID() && st.Change == "" && len(st.Groups) == 2
	})
	after := draining(st)
	if after == nil {
		t.Fatalf("generation 1 doesn't drain: %+v", st.Groups)
	}
	if d := after.Deadline.Sub(*before.Deadline).Abs(); d > time.Second {
		t.Errorf("the deadline has moved by %v", d)
	}
	if !kit.Refused(gone.Address) {
		t.Error("the removed address is open again")
	}
	stream.Echo("hello again")
	kept.Send(kit.Get)
	if resp, got := kept.Answer(); !resp.Close || got != "gone\n" {
		t.Errorf("answer %q, close %t", got, resp.Close)
	}
	kept.WantEOF()
	kept.Close()
	s.WaitAlone(m.PID())
	stream.Echo("and again")
	stream.Close()
	s.Stop()
}

// An address that was being removed when the master died is served again by one
// that wants it, and closed by one that doesn't. What waits there is served.
func TestAdoptionOfHiddenAddress(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		for _, wanted := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s wanted %t", network, wanted), func(t *testing.T) {
				c := harness.Default(t).With("worker_timeout: 1m")
				s := harness.Prepare(t, c)
				address := harness.Local(t)
				if network == "unix" {
					address = "unix:" + filepath.Join(s.Dir, "again.sock")
				}
				with := c.WithListeners(append(c.Listeners[:2:2], harness.Echo("again", address))...)
				s.WriteConfig(with)
				s.Run()
				s.WaitServing(1)
				stays := kit.Dial(t, c.Address("echo"))
				stays.Echo("hello")
				old := s.Workers()
				for _, pid := range old {
					harness.StopProcess(t, pid)
				}
				queued := kit.Dial(t, address)
				queued.Send("hello")
				s.WriteConfig(c)
				s.Reload()
				s.WaitStatus("the address to be about to go", func(st *control.Status) bool {
					return harness.ListenerAt(st, strings.TrimPrefix(address, "unix:")).Retiring > 0
				})
				s.Kill9Master()
				for _, pid := range old {
					harness.ContinueProcess(t, pid)
				}
				queued.WantBack("hello")
				if wanted {
					s.WriteConfig(with)
				}
				m := s.RunMaster()
				s.WaitMaster(m.PID())
				stays.Echo("hello again")
				if wanted {
					for range 10 {
						conn := kit.Dial(t, address)
						conn.Echo("hello")
						conn.Close() // or the stop would wait for it
					}
					queued.Echo("hello")
				} else {
					s.WaitStatus("the address to be closed", func(st *control.Status) bool { return len(st.Listeners) == 2 })
					if c, err := net.Dial(network, strings.TrimPrefix(address, "unix:")); err == nil {
						c.Close()
						t.Errorf("%s is open", address)
					}
					queued.Echo("hello, as long as there is time")
				}
				queued.Close()
				s.WaitAlone(m.PID())
				s.Reload()
				stays.Echo("and again")
				stays.Close()
				s.Stop()
			})
		}
	}
}

// A group that was being made smaller is whole again under a master that wants it
// so: every worker gets its part.
func TestAdoptionUndoesSteering(t *testing.T) {
	c := harness.Default(t).WithWorkers(4)
	s := harness.Start(t, c)
	s.WriteConfig(c.WithWorkers(1))
	s.Arm("retire-close", harness.Kill)
	go s.Ask("reload")
	pid := s.WaitHit("retire-close")
	s.Wait("the master to be gone", func() bool { return harness.Gone(pid) })
	s.Disarm("retire-close")
	s.WriteConfig(c)
	kit.Adopts(t, s)
	for range 200 {
		if got := kit.Body(c.Address("web")); got != "hello\n" {
			t.Fatalf("answer %q", got)
		}
	}
	for _, w := range kit.Workers(s.Status()) {
		if w.Totals.Accepted == 0 {
			t.Errorf("worker %d in slot %d got none of 200 connections", w.PID, w.Slot)
		}
	}
	s.Stop()
}

// Every kind of address, and sockets that all loops share, come through both ways.
func TestAddressFamiliesChangeMasters(t *testing.T) {
	for _, takeover := range []bool{false, true} {
		for _, shared := range []bool{false, true} {
			t.Run(fmt.Sprintf("takeover %t, exclusive %t", takeover, shared), func(t *testing.T) {
				port := harness.Port(t)
				c := harness.Default(t)
				s := harness.Prepare(t, c)
				v4, v6 := fmt.Sprintf("127.0.0.1:%d", port), fmt.Sprintf("[::1]:%d", port)
				local := harness.Default(t).WithListeners(
					harness.Web("web", "unix:"+filepath.Join(s.Dir, "web.sock")),
					harness.Echo("echo", "unix:"+filepath.Join(s.Dir, "echo.sock")))
				six := harness.Default(t).WithListeners(harness.Web("web", v6))
				all := []harness.Listener{harness.Web("v4", v4), harness.Web("v6", v6), c.Listeners[1]}
				c = c.WithListeners(append(all, local.Listeners...)...)
				if shared {
					c = exclusive(c)
				}
				c.Listeners[2].Name = "streams"
				s.WriteConfig(c)
				s.Run()
				s.WaitServing(1)
				kept := []*kit.Client{kit.Dial(t, v4), kit.Dial(t, v6), kit.Dial(t, local.Address("web"))}
				for _, conn := range kept {
					conn.Get()
				}
				mc := kit.Clients(local)
				mc.Strict, mc.Burst, mc.Idle = true, 100, 50
				mc6 := kit.Clients(six)
				mc6.Strict, mc6.Burst, mc6.Fresh = true, 0, 1
				kit.LosingNothing(t, mc, func(m *meter.Meter) {
					kit.LosingNothing(t, mc6, func(m6 *meter.Meter) {
						if takeover {
							m.Mark("takeover")
							kit.TakesOver(t, s)
							return
						}
						m.Mark("kill -9 and a new master")
						s.Kill9Master()
						kit.Adopts(t, s)
					})
				})
				for _, conn := range kept {
					conn.Send(kit.Get)
					conn.WantKept("hello\n")
					conn.Close()
				}
				s.Reload()
				s.Stop()
			})
		}
	}
}
