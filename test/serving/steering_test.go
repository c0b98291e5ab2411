package serving

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/control"
	"reuseportd/internal/shard"
	"reuseportd/test/harness"
	"reuseportd/test/kit"
	"reuseportd/test/meter"
)

// needEBPF skips the test where the kernel lets us not steer by load.
func needEBPF(t *testing.T) {
	t.Helper()
	l, err := shard.NewLoad(1)
	if errors.Is(err, unix.EPERM) {
		t.Skipf("eBPF is not permitted here: %v", err)
	}
	kit.Must(t, err)
	kit.Must(t, l.Close())
}

// steered is c with more lines for each listener.
func steered(c harness.Config, lines ...string) harness.Config {
	var ls []harness.Listener
	for _, l := range c.Listeners {
		l.Service = strings.Join(append(lines[:len(lines):len(lines)], l.Service), "\n    ")
		ls = append(ls, l)
	}
	return c.WithListeners(ls...)
}

// wantSteering wants every listener to be steered so, and as configured.
func wantSteering(t *testing.T, st *control.Status, want string) {
	t.Helper()
	for _, l := range st.Listeners {
		if l.Steering != want || l.SteeringNote != "" {
			t.Errorf("listener %s is steered by %q (%s), want %s", l.Name, l.Steering, l.SteeringNote, want)
		}
	}
}

// A worker that is stopped gets no new connection after 100 ms, and gets them again
// when it goes on. Workers of another user tell of themselves like any.
func TestStoppedWorkerGetsNothing(t *testing.T) {
	needEBPF(t)
	for _, user := range []string{"same", "another"} {
		t.Run(user, func(t *testing.T) {
			c := steered(harness.Default(t).WithWorkers(3).With("worker_timeout: 1m"), "steering: load")
			if user == "another" {
				if os.Geteuid() != 0 {
					t.Skip("only root can start workers as another user")
				}
				c = c.With("user: nobody", "group: nogroup")
			}
			s := harness.Start(t, c)
			st := s.Status()
			wantSteering(t, st, "load")
			pid := s.Workers()[1]
			for round := range 3 {
				harness.StopProcess(t, pid)
				time.Sleep(100 * time.Millisecond) // the promise is a time
				before := kit.Workers(s.Status())[pid]
				for i := range 100 {
					if got := kit.Body(c.Address("web")); got != "hello\n" {
						t.Fatalf("round %d, request %d while worker %d is stopped: %s", round, i, pid, got)
					}
				}
				st := s.Status()
				if after := kit.Workers(st)[pid]; after.Accepted != before.Accepted || harness.ListenerAt(st, c.Address("web")).Queued > 0 {
					t.Errorf("the stopped worker has accepted %d, and %d wait", after.Accepted-before.Accepted, harness.ListenerAt(st, c.Address("web")).Queued)
				}
				harness.ContinueProcess(t, pid)
				s.Wait("the worker to get connections again", func() bool {
					if got := kit.Body(c.Address("web")); got != "hello\n" {
						t.Fatal(got)
					}
					return kit.Workers(s.Status())[pid].Accepted > before.Accepted
				})
			}
			s.Stop()
		})
	}
}

// Open connections are spread evenly, which the hash doesn't do.
func TestLoadSpreadsOpenConnections(t *testing.T) {
	needEBPF(t)
	c := steered(harness.Default(t).WithWorkers(4), "steering: load")
	s := harness.Start(t, c)
	var conns []*kit.Client
	for range 200 {
		conn := kit.Dial(t, c.Address("web"))
		conn.Get()
		conns = append(conns, conn)
	}
	for pid, w := range kit.Workers(s.Status()) {
		// A loop that the machine keeps from turning gets less for a while.
		if w.Connections < 35 || w.Connections > 65 {
			t.Errorf("worker %d has %d of 200 connections, want about 50", pid, w.Connections)
		}
	}
	for _, conn := range conns {
		conn.Close()
	}
	s.Stop()
}

// steerings are all there are, with what their configuration needs.
var steerings = []string{"hash", "cpu", "random", "load"}

// Whatever steers, nothing is lost when the number of shards changes, or when the
// steering itself does.
func TestSteeringGrowsAndShrinks(t *testing.T) {
	needEBPF(t)
	for _, steering := range steerings[1:] {
		t.Run(steering, func(t *testing.T) {
			base := harness.Default(t).With("cpu_affinity: auto")
			c := steered(base, "steering: "+steering)
			s := harness.Start(t, c.WithWorkers(1))
			mc := kit.Clients(c)
			mc.Strict = true
			kit.LosingNothing(t, mc, func(m *meter.Meter) {
				for range 3 {
					for _, n := range []int{4, 1} {
						m.Mark("%d workers", n)
						s.WriteConfig(c.WithWorkers(n))
						s.Reload()
						st := s.WaitStatus("the shards to be as many", func(st *control.Status) bool {
							l := harness.ListenerAt(st, c.Address("web"))
							return l.Shards == n && l.Retiring == 0
						})
						wantSteering(t, st, steering)
					}
				}
			})
			s.Stop()
		})
	}
}

func TestSteeringChanges(t *testing.T) {
	needEBPF(t)
	base := harness.Default(t).With("cpu_affinity: auto").WithWorkers(3)
	s := harness.Start(t, base)
	mc := kit.Clients(base)
	mc.Strict = true
	kit.LosingNothing(t, mc, func(m *meter.Meter) {
		for _, from := range steerings {
			for _, to := range steerings {
				if from == to {
					continue
				}
				for _, steering := range []string{from, to} {
					m.Mark("steering: %s", steering)
					s.WriteConfig(steered(base, "steering: "+steering))
					s.Reload()
					wantSteering(t, s.Status(), steering)
				}
			}
		}
	})
	s.Stop()
}

// A change that fails when the shards are lent already leaves the steering that
// there was.
func TestSteeringOutlivesAFailedChange(t *testing.T) {
	needEBPF(t)
	c := steered(harness.Default(t), "steering: load")
	s := harness.Start(t, c)
	kit.LosingNothing(t, kit.Clients(c), func(m *meter.Meter) {
		s.WriteConfig(steered(harness.Default(t).WithWorkers(4).WithListeners(c.Listeners...), "backlog: 100"))
		for _, change := range []string{"reload", "upgrade"} {
			m.Mark("%s that fails", change)
			s.Arm("activate-drain", harness.Error)
			if r := s.Change(change); r.OK {
				t.Errorf("%s done: %+v", change, r)
			}
			s.Disarm("activate-drain")
			st := s.WaitStatus("the old shards to be alone", func(st *control.Status) bool {
				l := harness.ListenerAt(st, c.Address("web"))
				return st.Change == "" && harness.Serving(st) != nil && l.Shards == 2 && l.Retiring == 0
			})
			wantSteering(t, st, "load")
		}
	})
	// The master that the failed upgrade has left tells the program of a death, too.
	pid := s.Workers()[0]
	kit.Must(t, syscall.Kill(pid, syscall.SIGKILL))
	kit.Replaced(s, pid, 2)
	for range 20 {
		if got := kit.Body(c.Address("web")); got != "hello\n" {
			t.Error(got)
		}
	}
	s.Stop()
}

func TestSteeringIsTakenOver(t *testing.T) {
	needEBPF(t)
	for _, steering := range steerings[1:] {
		t.Run(steering, func(t *testing.T) {
			c := steered(harness.Default(t).With("cpu_affinity: auto").WithWorkers(3), "steering: "+steering)
			s := harness.Start(t, c)
			mc := kit.Clients(c)
			mc.Strict = true
			kit.LosingNothing(t, mc, func(m *meter.Meter) {
				m.Mark("upgrade")
				s.Upgrade()
				wantSteering(t, s.Status(), steering)
				m.Mark("takeover")
				wantSteering(t, kit.TakesOver(t, s), steering)
				m.Mark("kill -9 of the master")
				s.Kill9Master()
				m.Mark("new master")
				wantSteering(t, kit.Adopts(t, s), steering)
				m.Mark("reload")
				s.Reload()
				wantSteering(t, s.Status(), steering)
			})
			s.Stop()
		})
	}
}

// A shard that was lost with worker and master is replaced, but not in the kernel's
// order: what steers by index gives way to the hash, for every master to come.
func TestLostShardEndsSteeringByIndex(t *testing.T) {
	needEBPF(t)
	c := steered(harness.Default(t).WithWorkers(3), "steering: load")
	s := harness.Start(t, c)
	pid := s.Workers()[0]
	s.Kill9Master()
	s.KillWorkers(pid)
	kit.LosingNothing(t, kit.Clients(c), func(m *meter.Meter) {
		expect := func(st *control.Status) {
			t.Helper()
			l := harness.ListenerAt(st, c.Address("web"))
			if l.Steering != "hash" || !strings.Contains(l.SteeringNote, "order") {
				t.Errorf("steered by %q (%s), want the hash", l.Steering, l.SteeringNote)
			}
		}
		m.Mark("new master")
		expect(kit.Adopts(t, s))
		m.Mark("upgrade")
		s.Upgrade()
		expect(s.Status())
		m.Mark("kill -9 of the master")
		s.Kill9Master()
		m.Mark("new master")
		expect(kit.Adopts(t, s))
	})
	s.Stop()
}

// A worker's death is told to what steers: no connect fails, no connection waits for
// the replacement.
func TestKilledWorkerUnderLoad(t *testing.T) {
	needEBPF(t)
	c := steered(harness.Default(t).WithWorkers(3), "steering: load")
	s := harness.Start(t, c)
	mc := kit.Clients(c)
	mc.Kept, mc.Halves, mc.Pipeline, mc.Stream = 0, 0, 0, 0
	kit.Killing(t, s, mc, 3, mc.Burst)
	// A slot that stays empty is steered around.
	s.Arm("worker-start", harness.Exit)
	kit.Must(t, syscall.Kill(s.Workers()[0], syscall.SIGKILL))
	s.WaitStatus("the back-off", func(st *control.Status) bool { return harness.Serving(st) == nil })
	for range 50 {
		if got := kit.Body(c.Address("web")); got != "hello\n" {
			t.Error(got)
		}
	}
	s.Disarm("worker-start")
	s.WaitServing(1)
	s.Stop()
}

// runWithoutBPF starts the master without CAP_BPF and CAP_SYS_ADMIN. A thread's
// bounding set can't be widened again, so the thread ends with the goroutine.
func runWithoutBPF(t *testing.T, s *harness.Server) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		for _, c := range []uintptr{unix.CAP_BPF, unix.CAP_SYS_ADMIN} {
			if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil && os.Geteuid() == 0 {
				done <- err
				return
			}
		}
		s.Run()
		done <- nil
	}()
	kit.Must(t, <-done)
}

// Without the privilege, the server says so, at start and at each reload, and does
// what the configuration names instead.
func TestLoadWithoutPrivilege(t *testing.T) {
	c := harness.Default(t)
	s := harness.Prepare(t, steered(c, "steering: load", "steering_fallback: random"))
	runWithoutBPF(t, s)
	s.WaitServing(1)
	for generation := 1; generation < 3; generation++ {
		log := s.Log()
		if n := strings.Count(log, "steering: load can't be had, random (steering_fallback) is used instead; give the master CAP_BPF"); n != 2*generation {
			t.Errorf("%d warnings for 2 listeners of %d generations:\n%s", n, generation, log)
		}
		for _, l := range s.Status().Listeners {
			if l.Steering != "random" || !strings.Contains(l.SteeringNote, "no CAP_BPF") {
				t.Errorf("listener %s is steered by %q: %s", l.Name, l.Steering, l.SteeringNote)
			}
		}
		s.Reload()
	}
	if out := s.CLI("status").Stdout; !strings.Contains(out, "web is steered by random and not as configured: make a table for eBPF: this process has no CAP_BPF") {
		t.Errorf("status says\n%s", out)
	}
	s.WriteConfig(steered(c, "steering: load"))
	s.Reload()
	if l := harness.ListenerAt(s.Status(), c.Address("web")); l.Steering != "hash" || l.SteeringNote == "" {
		t.Errorf("steered by %q: %s; want the hash", l.Steering, l.SteeringNote)
	}
	s.WriteConfig(c)
	s.Reload()
	wantSteering(t, s.Status(), "hash")
	s.Stop()
}

// masks returns the CPUs that the threads of a process may use, each set once, with the
// number of threads.
func masks(pid int) map[string]int {
	all := make(map[string]int)
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	for _, task := range tasks {
		data, _ := os.ReadFile(task + "/status")
		for line := range strings.Lines(string(data)) {
			if value, ok := strings.CutPrefix(line, "Cpus_allowed_list:"); ok {
				all[strings.TrimSpace(value)]++
			}
		}
	}
	return all
}

// Each loop runs on the CPU of its slot, whichever process, generation or
// replacement it is in; the master runs anywhere.
func TestLoopsArePinned(t *testing.T) {
	own := masks(os.Getpid())
	var set unix.CPUSet
	kit.Must(t, unix.SchedGetaffinity(0, &set))
	if set.Count() < 2 {
		t.Skip("one CPU only")
	}
	var cpus []int
	for i := range 1024 {
		if set.IsSet(i) && len(cpus) < 2 {
			cpus = append(cpus, i)
		}
	}
	a, b := fmt.Sprint(cpus[0]), fmt.Sprint(cpus[1])
	c := harness.Default(t).WithWorkers(3).With(fmt.Sprintf("cpu_affinity: [%s, %s]", b, a))
	s := harness.Start(t, c)
	check := func() {
		t.Helper()
		for i, pid := range s.Workers() {
			want := []string{b, a, b}[i]
			if got := masks(pid); len(got) != 1 || got[want] == 0 {
				t.Errorf("worker %d: CPUs and threads %v, want CPU %s alone", i, got, want)
			}
			if got := kit.Workers(s.Status())[pid].CPUs; fmt.Sprint(got) != fmt.Sprintf("[%s]", want) {
				t.Errorf("worker %d: status says %v, want %s", i, got, want)
			}
		}
		for mask := range masks(s.PID()) {
			if own[mask] == 0 {
				t.Errorf("the master may use CPUs %s, this test %v", mask, own)
			}
		}
	}
	check()
	pid := s.Workers()[1]
	kit.Must(t, syscall.Kill(pid, syscall.SIGKILL))
	kit.Replaced(s, pid, 3)
	check()
	s.Upgrade()
	check()
	s.Kill9Master()
	kit.Adopts(t, s)
	check()
	// Loops that share a process have a thread each; the others may use both CPUs.
	s.WriteConfig(func() harness.Config { c := c.WithWorkers(1); c.Threads = 2; return c }())
	s.Reload()
	s.WaitServing(s.Status().Generation)
	got := masks(s.Workers()[0])
	if got[a] != 1 || got[b] != 1 || len(got) != 3 {
		t.Errorf("CPUs and threads %v, want one thread on each of CPU %s and %s, and the others on both", got, a, b)
	}
	s.Stop()
}
