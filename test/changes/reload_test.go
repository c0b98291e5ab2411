package changes

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"reuseportd/internal/control"
	"reuseportd/test/harness"
	"reuseportd/test/kit"
	"reuseportd/test/meter"
)

func TestTwentyReloads(t *testing.T) {
	c := harness.Default(t)
	s := harness.Start(t, c)
	kit.LosingNothing(t, kit.Clients(c), func(m *meter.Meter) {
		for i := range 20 {
			m.Mark("reload %d", i+1)
			r := s.Reload()
			if r.Generation != uint64(i+2) || r.Previous != uint64(i+1) || r.ReadyMS <= 0 {
				t.Errorf("receipt of reload %d: %+v", i+1, r)
			}
		}
	})
	s.WaitServing(21)
}

func TestReloadBySignal(t *testing.T) {
	c := harness.Default(t)
	s := harness.Start(t, c)
	c.Listeners[0] = harness.Answer("web", c.Listeners[0].Address, "changed")
	s.WriteConfig(c)
	s.Signal(syscall.SIGHUP)
	st := s.WaitServing(2)
	if got := kit.Body(c.Address("web")); got != "changed\n" {
		t.Errorf("answer %q", got)
	}
	if r := st.LastChange; r == nil || r.Action != "reload" || !r.OK || r.Generation != 2 || r.ConfigSHA256 != st.Config.SHA256 {
		t.Errorf("receipt %+v", st.LastChange)
	}
}

func TestReloadCommand(t *testing.T) {
	s := harness.Start(t, harness.Default(t))
	if r := s.CLI("reload"); r.Code != 0 || !strings.Contains(r.Stdout, "2") {
		t.Errorf("reload: status %d: %s%s", r.Code, r.Stdout, r.Stderr)
	}
	r := s.CLI("reload", "--json")
	receipt := kit.ParseReceipt(t, r.Stdout)
	if r.Code != 0 || !receipt.OK || receipt.Generation != 3 {
		t.Errorf("reload --json: status %d: %+v", r.Code, receipt)
	}
}

func TestWorkerCountFourOneFour(t *testing.T) {
	c := harness.Default(t).WithWorkers(4)
	s := harness.Start(t, c)
	slow := 0
	for round := range 3 {
		r := kit.LosingNothing(t, kit.Clients(c), func(m *meter.Meter) {
			for _, n := range []int{1, 4, 2, 4} {
				m.Mark("%d workers, round %d", n, round)
				s.WriteConfig(c.WithWorkers(n))
				s.Reload()
				s.WaitStatus("shards to retire", func(st *control.Status) bool {
					l := harness.ListenerAt(st, c.Address("web"))
					return l.Retiring == 0 && l.Shards == n && len(kit.Workers(st)) == n
				})
			}
		})
		for _, k := range r.Kinds {
			slow += int(k.SlowConnects)
		}
	}
	if slow > 0 {
		t.Logf("%d connects took as long as a SYN sent again", slow)
	}
}

func TestListenersAddedAndRemoved(t *testing.T) {
	c := harness.Default(t)
	s := harness.Start(t, c)
	more := harness.Answer("more", harness.Local(t), "more")
	kit.LosingNothing(t, kit.Clients(c), func(m *meter.Meter) {
		for i := range 3 {
			m.Mark("listener added, %d", i)
			s.WriteConfig(c.WithListeners(append(c.Listeners[:2:2], more)...))
			s.Reload()
			if got := kit.Body(more.Address); got != "more\n" {
				t.Errorf("the added listener answers %q", got)
			}
			m.Mark("listener removed, %d", i)
			s.WriteConfig(c)
			s.Reload()
			s.Wait("the removed address to be closed", func() bool { return kit.Refused(more.Address) })
		}
	})
	if l := s.WaitServing(7).Listeners; len(l) != 2 {
		t.Errorf("listeners %+v, want two", l)
	}
}

// A connection that waits in the queue of a removed listener was accepted by
// the kernel in the listener's name: it is served.
func TestRemovedListenerServesItsQueue(t *testing.T) {
	c := harness.Default(t).With("worker_timeout: 30s")
	more := harness.Answer("more", harness.Local(t), "more")
	both := c.WithListeners(append(c.Listeners[:2:2], more)...)
	s := harness.Start(t, both)
	var conns []*kit.Client
	stopped := s.Workers()
	for _, pid := range stopped {
		harness.StopProcess(t, pid)
	}
	for range 50 {
		conn := kit.Dial(t, more.Address)
		conn.Send(kit.Get)
		conns = append(conns, conn)
	}
	s.WriteConfig(c)
	reloaded := make(chan *control.Receipt, 1)
	go func() { reloaded <- s.Change("reload") }()
	// The new workers serve what the old, stopped ones have not accepted, or
	// the old ones do when they go on.
	s.WaitStatus("the next generation", func(st *control.Status) bool { return st.Generation == 2 || len(st.Groups) == 2 })
	for _, pid := range stopped {
		harness.ContinueProcess(t, pid)
	}
	if r := <-reloaded; !r.OK {
		t.Errorf("reload: %+v", r)
	}
	for _, conn := range conns {
		if _, text := conn.Get2(); text != "more\n" {
			t.Errorf("answer %q", text)
		}
	}
	s.Wait("the removed address to be closed", func() bool { return kit.Refused(more.Address) })
}

func TestListenerReaddressed(t *testing.T) {
	c := harness.Default(t)
	s := harness.Start(t, c)
	kept := kit.Dial(t, c.Address("web"))
	kept.Get()
	moved := harness.Web("web", harness.Local(t))
	s.WriteConfig(c.WithListeners(moved, c.Listeners[1]))
	s.Reload()
	if got := kit.Body(moved.Address); got != "hello\n" {
		t.Errorf("the new address answers %q", got)
	}
	if resp, _ := kept.Get(); !resp.Close {
		t.Error("a connection of the old address is kept")
	}
	s.Wait("the old address to be closed", func() bool { return kit.Refused(c.Address("web")) })
}

// Two listeners change their addresses with each other: nobody may see a
// refused connection, and who connects gets one or the other.
func TestAddressesSwapped(t *testing.T) {
	a, b := harness.Local(t), harness.Local(t)
	c := harness.Default(t)
	one := c.WithListeners(harness.Answer("one", a, "one"), harness.Answer("two", b, "two"))
	two := c.WithListeners(harness.Answer("one", b, "one"), harness.Answer("two", a, "two"))
	s := harness.Start(t, one)
	mc := kit.Clients(c.WithListeners(harness.Web("web", a)))
	mc.Check = func(_ string, status int, body []byte) error {
		if status != 200 || !strings.HasPrefix(string(body), "one") && !strings.HasPrefix(string(body), "two") {
			return fmt.Errorf("answer %d %q", status, body)
		}
		return nil
	}
	kit.LosingNothing(t, mc, func(m *meter.Meter) {
		for i := range 6 {
			m.Mark("swap %d", i)
			want := []harness.Config{two, one}[i%2]
			s.WriteConfig(want)
			s.Reload()
			// The old generation may accept for a moment yet.
			text := []string{"two\n", "one\n"}[i%2]
			s.Wait("the address to answer "+text, func() bool { return kit.Body(a) == text })
		}
	})
}

// An address moves from an HTTP to an echo listener.
func TestServiceOfAddressChanges(t *testing.T) {
	address := harness.Local(t)
	c := harness.Default(t)
	s := harness.Start(t, c.WithListeners(harness.Web("web", address)))
	kept := kit.Dial(t, address)
	kept.Get()
	s.WriteConfig(c.WithListeners(harness.Echo("echo", address)))
	s.Reload()
	kit.Dial(t, address).Echo("hello")
	if resp, _ := kept.Get(); !resp.Close {
		t.Error("a connection of the service that was is kept")
	}
}

// waitQuiet waits until a generation from this one on serves and no change is in
// progress. An older one may drain: it has the stream clients.
func waitQuiet(s *harness.Server, generation uint64) *control.Status {
	return s.WaitStatus(fmt.Sprintf("generation %d to serve", generation), func(st *control.Status) bool {
		return st.Generation >= generation && st.Change == ""
	})
}

func TestTwoHundredSignals(t *testing.T) {
	c := harness.Default(t)
	s := harness.Start(t, c)
	kit.LosingNothing(t, kit.Clients(c), func(m *meter.Meter) {
		pid := s.PID()
		m.Mark("200 SIGHUPs")
		for range 200 {
			if err := syscall.Kill(pid, syscall.SIGHUP); err != nil {
				t.Fatal(err)
			}
		}
		waitQuiet(s, 2)
		// And by requests that all get an answer.
		const asks = 40
		m.Mark("%d requests to reload", asks)
		before := s.Status().Generation
		receipts := make(chan *control.Receipt, asks)
		for range asks {
			go func() { receipts <- s.Change("reload") }()
		}
		coalesced := 0
		for range asks {
			r := <-receipts
			if !r.OK || r.Generation <= before {
				t.Errorf("receipt %+v", r)
			}
			coalesced = max(coalesced, r.Coalesced)
		}
		st := waitQuiet(s, before+1)
		if st.Generation-before > asks/4 || coalesced == 0 {
			t.Errorf("%d generations for %d requests; at most %d were answered by one", st.Generation-before, asks, coalesced)
		}
	})
	if g := s.Status().Generation; g > 100 {
		t.Errorf("generation %d: the signals were not coalesced", g)
	}
}

func TestFileIsWatched(t *testing.T) {
	c := harness.Default(t)
	c.Top = nil // watching is the default
	web := c.Address("web")
	text := func(answer string) string {
		return c.WithListeners(harness.Answer("web", web, answer), c.Listeners[1]).String()
	}
	s := harness.Prepare(t, c)
	// As Kubernetes mounts a ConfigMap: config.yaml → ..data/config.yaml, ..data → ..1.
	volume := func(n int, answer string) {
		dir := filepath.Join(s.Dir, fmt.Sprintf("..%d", n))
		kit.Must(t, os.Mkdir(dir, 0o755))
		kit.Must(t, os.WriteFile(filepath.Join(dir, "config.yaml"), []byte(text(answer)), 0o644))
		kit.Must(t, os.Symlink(filepath.Base(dir), filepath.Join(s.Dir, "..data_tmp")))
		kit.Must(t, os.Rename(filepath.Join(s.Dir, "..data_tmp"), filepath.Join(s.Dir, "..data")))
	}
	plain := s.ConfigPath
	kit.Must(t, os.Remove(plain))
	volume(1, "mounted")
	kit.Must(t, os.Symlink("..data/config.yaml", plain))
	s.Run()
	s.WaitServing(1)
	answers := func(want string) {
		t.Helper()
		s.Wait("the answer "+want, func() bool { return kit.Body(web) == want+"\n" })
	}
	answers("mounted")
	volume(2, "swapped")
	answers("swapped")
	kit.Must(t, os.RemoveAll(filepath.Join(s.Dir, "..1")))
	volume(3, "swapped again")
	answers("swapped again")

	s.WriteConfigText(text("renamed")) // a file in the place of the link
	answers("renamed")
	kit.Must(t, os.WriteFile(plain, []byte(text("written")), 0o644))
	answers("written")

	// A half-written file changes nothing, and is told.
	whole := text("whole")
	kit.Must(t, os.WriteFile(plain, []byte(whole[:len(whole)-30]), 0o644))
	s.WaitStatus("the error of the half-written file", func(st *control.Status) bool { return st.Config.Error != "" })
	answers("written")
	kit.Must(t, os.WriteFile(plain, []byte(whole), 0o644))
	answers("whole")
	st := s.WaitServing(1)
	if st.Config.Error != "" || st.LastChange == nil || !st.LastChange.OK {
		t.Errorf("status after a good file: error %q, change %+v", st.Config.Error, st.LastChange)
	}

	// The same content is no change.
	kit.Must(t, os.Chtimes(plain, time.Now(), time.Now()))
	s.WriteConfigText(text("last"))
	answers("last")
	if got := s.WaitServing(st.Generation + 1).Generation; got != st.Generation+1 {
		t.Errorf("generation %d after %d and one change", got, st.Generation)
	}
}

func TestBadConfigurationChangesNothing(t *testing.T) {
	c := harness.Default(t)
	s := harness.Start(t, c)
	before := s.WaitServing(1)
	taken := harness.Local(t)
	l, err := kit.Listen(taken)
	kit.Must(t, err)
	defer l.Close()
	good := c.String()
	for _, bad := range []struct{ name, text, says string }{
		{"no YAML", "listeners: [", "config.yaml:1"},
		{"unknown key", good + "wrokers: 3\n", "wrokers"},
		{"duplicate address", c.WithListeners(c.Listeners[0], harness.Echo("other", c.Listeners[0].Address)).String(), c.Listeners[0].Address},
		{"duration without a unit", good + "drain_timeout: 30\n", "drain_timeout"},
		{"address in use", c.WithListeners(c.Listeners[0], harness.Echo("other", taken)).String(), taken},
		{"missing root", strings.Replace(good, c.Listeners[1].Service, "http: {routes: [{files: {root: /nowhere/at/all}}]}", 1), "/nowhere/at/all"},
		{"empty", "", "config.yaml"},
	} {
		t.Run(bad.name, func(t *testing.T) {
			s.WriteConfigText(bad.text)
			r := kit.LosingNothing(t, kit.Clients(c), func(m *meter.Meter) {
				m.Mark("%s", bad.name)
				r := s.Change("reload")
				if r.OK || !strings.Contains(r.Error, bad.says) || r.Generation != before.Generation {
					t.Errorf("receipt %+v, want an error about %s", r, bad.says)
				}
				cli := s.CLI("reload")
				if cli.Code != 1 || !strings.Contains(cli.Stdout+cli.Stderr, bad.says) {
					t.Errorf("reload: status %d: %s%s", cli.Code, cli.Stdout, cli.Stderr)
				}
			})
			for _, k := range r.Kinds {
				if k.Ended > 0 {
					t.Errorf("%d connections of %s clients were ended", k.Ended, k.Kind)
				}
			}
			kit.Unchanged(t, s, before)
			if st := s.Status(); st.LastChange == nil || st.LastChange.OK || st.Config.Error == "" {
				t.Errorf("status says nothing of it: %+v, %q", st.LastChange, st.Config.Error)
			}
		})
	}
	s.WriteConfigText(good)
	s.Reload()
	if st := s.Status(); st.Config.Error != "" {
		t.Errorf("status keeps the error of a file that was: %s", st.Config.Error)
	}
}

func TestWorkersThatDoNotStart(t *testing.T) {
	for _, tt := range []struct{ point, action, says string }{
		{"worker-start", harness.Error, "failpoint"},
		{"worker-start", harness.Exit, "exit"},
		{"worker-start", harness.Kill, "kill"},
		{"worker-start", harness.Pause, "start_timeout"},
		{"worker-ready", harness.Error, "failpoint"},
		{"worker-ready", harness.Panic, "exit status 2: panic: failpoint worker-ready"},
		{"worker-ready", harness.Pause, "start_timeout"},
	} {
		t.Run(tt.point+" "+tt.action, func(t *testing.T) {
			c := harness.Default(t).With("start_timeout: 3s")
			s := harness.Start(t, c)
			before := s.WaitServing(1)
			r := kit.LosingNothing(t, kit.Clients(c), func(m *meter.Meter) {
				m.Mark("reload with workers that %s at %s", tt.action, tt.point)
				s.Arm(tt.point, tt.action)
				if r := s.Change("reload"); r.OK || !strings.Contains(r.Error, tt.says) {
					t.Errorf("receipt %+v, want an error about %s", r, tt.says)
				}
				s.Disarm(tt.point)
			})
			for _, k := range r.Kinds {
				if k.Ended > 0 {
					t.Errorf("%d connections of %s clients were ended", k.Ended, k.Kind)
				}
			}
			s.AllowPanic()
			kit.Unchanged(t, s, before)
			s.Reload()
		})
	}
}

// TestStopWithIdleConnections: idle kept connections don't hold up a stop, and are no loss: their clients see an end.
func TestStopWithIdleConnections(t *testing.T) {
	c := harness.Default(t).With("drain_timeout: 10m")
	s := harness.Start(t, c)
	kept, fresh := kit.Dial(t, c.Address("web")), kit.Dial(t, c.Address("web"))
	kept.Get()
	s.Reload()
	kept.Get()
	s.Stop()
	kept.WantEOF()
	fresh.WantEOF()
	if log := s.Log(); !strings.Contains(log, `"cut":0`) {
		t.Errorf("something was cut:\n%s", log)
	}
}
