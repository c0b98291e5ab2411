package changes

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"reuseportd/internal/control"
	"reuseportd/test/harness"
	"reuseportd/test/kit"
)

// trialOf is a configuration whose probation no test outlives by accident.
func trialOf(t *testing.T) harness.Config {
	t.Helper()
	return harness.Default(t).With("probation: 1m", "start_timeout: 30s", "drain_timeout: 1m")
}

// answering is c with another answer of its web listener.
func answering(c harness.Config, text string) harness.Config {
	return c.WithListeners(harness.Answer("web", c.Address("web"), text), c.Listeners[1])
}

// restarts adds up what the serving generation's workers were started again.
func restarts(st *control.Status) (n int) {
	for _, g := range st.Groups {
		if g.ID == st.Generation {
			for _, w := range g.Workers {
				n += w.Restarts
			}
		}
	}
	return n
}

// killOne kills an idle worker of the serving generation, so that no connection is
// lost, and returns when the master has noticed.
func killOne(t *testing.T, s *harness.Server) {
	t.Helper()
	st := s.WaitStatus("an idle worker that serves", func(st *control.Status) bool { return idleWorker(st) != 0 })
	kit.Must(t, syscall.Kill(idleWorker(st), syscall.SIGKILL))
	awaitDeath(s, st)
}

// awaitDeath waits until one more worker than in st has died.
func awaitDeath(s *harness.Server, st *control.Status) {
	s.WaitStatus("the death to be noticed", func(now *control.Status) bool {
		return now.Generation != st.Generation || now.Change == "rollback" || restarts(now) > restarts(st)
	})
}

func idleWorker(st *control.Status) int {
	for _, g := range st.Groups {
		if g.ID != st.Generation || g.State != "serving" {
			continue
		}
		for _, w := range g.Workers {
			if w.State == "serving" && w.Connections == 0 {
				return w.PID
			}
		}
	}
	return 0
}

func killThree(t *testing.T, s *harness.Server) {
	t.Helper()
	for range 3 {
		killOne(t, s)
	}
}

// waitChange waits until the last change is of this kind, and nothing is in progress.
func waitChange(s *harness.Server, action string) *control.Status {
	return s.WaitStatus("the receipt of a "+action, func(st *control.Status) bool {
		return st.LastChange != nil && st.LastChange.Action == action && st.Change == ""
	})
}

// changesOf lists the receipts, with a ! behind failed ones and a ~ behind undone ones.
func changesOf(st *control.Status) string {
	var all []string
	for _, r := range st.Receipts {
		text := r.Action
		if !r.OK {
			text += "!"
		}
		if r.Undone != "" {
			text += "~"
		}
		all = append(all, text)
	}
	return strings.Join(all, " ")
}

func wantChanges(t *testing.T, st *control.Status, want string) {
	t.Helper()
	if got := changesOf(st); got != want {
		t.Errorf("changes: %s, want %s", got, want)
	}
}

// wantRolledBack holds what all that tell of a rollback must say.
func wantRolledBack(t *testing.T, s *harness.Server, before, after *control.Status) {
	t.Helper()
	r := after.LastChange
	if r.Generation != after.Generation || r.Previous != before.Generation+1 || r.ConfigSHA256 != before.Config.SHA256 || r.Cause == "" {
		t.Errorf("receipt of the rollback %+v", r)
	}
	if r.ReadyMS > 1000*float64(kit.Figures(5, 1)) {
		t.Errorf("the old behaviour was back only after %.0f ms", r.ReadyMS)
	}
	t.Logf("the old behaviour was back after %.0f ms", r.ReadyMS)
	if after.Config.SHA256 != before.Config.SHA256 || after.Version != before.Version {
		t.Errorf("version %s with configuration %.8s serves, want %s with %.8s",
			after.Version, after.Config.SHA256, before.Version, before.Config.SHA256)
	}
	if !strings.Contains(after.Config.Error, "died on probation") || !strings.Contains(after.Config.Error, "was brought back") {
		t.Errorf("the file's error is %q", after.Config.Error)
	}
	if log := s.Log(); !strings.Contains(log, "died on probation: rolling back to the previous") {
		t.Error("the log doesn't say that it is rolled back")
	}
	cli := s.CLIFrom(harness.Build(t), "status")
	if !strings.Contains(cli.Stdout, "rollback") || !strings.Contains(cli.Stdout, "died on probation") {
		t.Errorf("status doesn't tell of it:\n%s", cli.Stdout)
	}
}

func TestRollbackOfReload(t *testing.T) {
	c := trialOf(t).WithWorkers(3)
	s := harness.Start(t, c)
	before := s.Status()
	kept, stream := kit.Dial(t, c.Address("web")), kit.Dial(t, c.Address("echo"))
	kept.Get()
	stream.Echo("before")
	s.WriteConfig(answering(c, "bad"))
	kit.Replace(t, s, "reload")
	if _, text := kept.Get(); text != "bad\n" {
		t.Fatalf("answer %q after the reload", text)
	}
	killThree(t, s)
	after := waitChange(s, "rollback")
	if got := kit.Body(c.Address("web")); got != "hello\n" {
		t.Errorf("answer %q after the rollback", got)
	}
	wantChanges(t, after, "start reload~ rollback")
	wantRolledBack(t, s, before, after)
	// What was open has come along.
	if resp, text := kept.Get(); text != "hello\n" || resp.Close {
		t.Errorf("answer %q on the kept connection, closed %v", text, resp.Close)
	}
	stream.Echo("after")
	if st := s.WaitServing(3); st.Totals.Cut > 0 || st.LastChange.HandedOver != 2 {
		t.Errorf("%d connections were cut, receipt %+v", st.Totals.Cut, st.LastChange)
	}
}

// The binary that was is started, be its file replaced, removed, or reached by a
// link that leads nowhere by now; the next upgrade runs what stands at its path.
func TestRollbackOfUpgrade(t *testing.T) {
	for _, tt := range []struct {
		name  string
		after func(t *testing.T, s *harness.Server) // the upgrade
	}{
		{"replaced", func(*testing.T, *harness.Server) {}},
		{"removed", func(_ *testing.T, s *harness.Server) { s.Replace(harness.Missing) }},
		{"exchanged again", func(_ *testing.T, s *harness.Server) { s.Replace(harness.Garbage) }},
		{"dangling link", func(t *testing.T, s *harness.Server) {
			kit.Must(t, os.Symlink(filepath.Join(s.Dir, "nowhere"), s.Binary+".link"))
			kit.Must(t, os.Rename(s.Binary+".link", s.Binary))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := trialOf(t)
			s := harness.Start(t, c)
			before := s.Status()
			s.Install(harness.BuildCrashing(t))
			s.WriteConfig(answering(c, "bad"))
			bad := s.Upgrade()
			if bad.Version != "crashing" || kit.Body(c.Address("web")) != "bad\n" {
				t.Fatalf("receipt of the upgrade %+v", bad)
			}
			tt.after(t, s)
			s.Arm(harness.CrashFile, "on")
			after := waitChange(s, "rollback")
			if got := kit.Body(c.Address("web")); got != "hello\n" {
				t.Errorf("answer %q after the rollback", got)
			}
			wantChanges(t, after, "start upgrade~ rollback")
			wantRolledBack(t, s, before, after)
			if after.PID == before.PID || after.PID == bad.PID || after.LastChange.PID != after.PID {
				t.Errorf("master %d, receipt %+v; before it %d and %d", after.PID, after.LastChange, before.PID, bad.PID)
			}
			s.WaitPID(bad.PID)
			s.Disarm(harness.CrashFile)
			// Once more, and again back; then for good.
			s.Install(harness.BuildVersion(t, "next"))
			if tt.name == "dangling link" {
				kit.Must(t, os.Remove(s.Binary))
				s.Install(harness.BuildVersion(t, "next"))
			}
			if r := s.Upgrade(); r.Version != "next" {
				t.Errorf("receipt of the next upgrade %+v", r)
			}
			st := s.WaitServing(4)
			wantChanges(t, st, "start upgrade~ rollback upgrade")
			if st.Config.Error != "" {
				t.Errorf("the file's error after an upgrade that loaded it is %q", st.Config.Error)
			}
			for _, pid := range s.Workers() {
				env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
				kit.Must(t, err)
				if strings.Contains(string(env), "REUSEPORTD_BINARY") {
					t.Errorf("worker %d has the rollback's mark in its environment", pid)
				}
			}
			s.Stop()
		})
	}
}

// Upgrade to a bad binary, back, and the same again: each time what is open goes along.
func TestRollbackOfUpgradeKeepsConnections(t *testing.T) {
	c := trialOf(t).WithWorkers(3)
	s := harness.Start(t, c)
	kept, stream := kit.Dial(t, c.Address("web")), kit.Dial(t, c.Address("echo"))
	kept.Get()
	stream.Echo("before")
	for i := range 2 {
		s.Install(harness.BuildVersion(t, "next"))
		kit.Replace(t, s, "upgrade")
		kept.Get()
		killThree(t, s)
		st := waitChange(s, "rollback")
		if st.Version != "test" {
			t.Errorf("version %s after rollback %d", st.Version, i+1)
		}
		if resp, _ := kept.Get(); resp.Close {
			t.Errorf("the kept connection is closed after rollback %d", i+1)
		}
		stream.Echo("after")
		s.WaitServing(st.Generation)
	}
	if st := s.Status(); st.Totals.Cut > 0 {
		t.Errorf("%d connections were cut", st.Totals.Cut)
	}
}

// Whoever waits with --drained is told of the rollback that came meanwhile.
func TestDrainedTellsOfRollback(t *testing.T) {
	for _, change := range kit.BothChanges {
		t.Run(change, func(t *testing.T) {
			c := trialOf(t).WithWorkers(3)
			more := harness.Echo("more", harness.Local(t))
			s := harness.Start(t, c.WithListeners(append(c.Listeners[:2:2], more)...))
			// Of a listener that the next configuration doesn't have: it can't go along.
			pin := kit.Dial(t, more.Address)
			pin.Echo("pin")
			s.WriteConfig(c)
			answered := make(chan harness.Result, 1)
			go func() { answered <- s.CLI(change, "--drained", "--json") }()
			s.WaitGeneration(2)
			killThree(t, s)
			waitChange(s, "rollback")
			pin.Close()
			r := <-answered
			receipt := kit.ParseReceipt(t, r.Stdout)
			if r.Code != 1 || receipt.Action != change || !receipt.OK || !receipt.Drained ||
				!strings.Contains(receipt.Undone, "died on probation") || receipt.Finished != 1 {
				t.Errorf("status %d, receipt %+v %s", r.Code, receipt, r.Stderr)
			}
		})
	}
}

// Two workers that hang, and one that crashes, are three.
func TestHangsCount(t *testing.T) {
	c := trialOf(t).With("worker_timeout: 1s")
	s := harness.Start(t, c)
	s.WriteConfig(answering(c, "bad"))
	s.Reload()
	for range 2 {
		st := s.WaitServing(2)
		harness.StopProcess(t, idleWorker(st))
		awaitDeath(s, st)
	}
	if got := kit.Body(c.Address("web")); got != "bad\n" {
		t.Errorf("answer %q after two hangs", got)
	}
	killOne(t, s)
	wantChanges(t, waitChange(s, "rollback"), "start reload~ rollback")
	if got := kit.Body(c.Address("web")); got != "hello\n" {
		t.Errorf("answer %q after the rollback", got)
	}
}

func TestDeathsThatDoNotCount(t *testing.T) {
	for _, tt := range []struct {
		name   string
		line   string
		change bool
		wait   string
	}{
		{"after probation", "probation: 1s", true, "probation is over"},
		{"probation off", "probation: 0s", true, ""},
		{"first generation", "probation: 1m", false, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := harness.Default(t).With(tt.line)
			s := harness.Start(t, c)
			want, changes := "hello\n", "start"
			if tt.change {
				want, changes = "changed\n", "start reload"
				s.WriteConfig(answering(c, "changed"))
				s.Reload()
			}
			if tt.wait != "" {
				s.WaitLog(tt.wait)
			}
			for range 4 {
				killOne(t, s)
			}
			st := s.WaitStatus("all to be replaced", func(st *control.Status) bool {
				return harness.Serving(st) != nil && restarts(st) == 4
			})
			wantChanges(t, st, changes)
			if got := kit.Body(c.Address("web")); got != want {
				t.Errorf("answer %q", got)
			}
		})
	}
}

// rollingBack has a rollback of a reload under way, which waits for its workers to be
// let go from worker-ready.
func rollingBack(t *testing.T, c harness.Config) *harness.Server {
	t.Helper()
	s := harness.Start(t, c)
	s.WriteConfig(answering(c, "bad"))
	s.Reload()
	killOne(t, s)
	killOne(t, s)
	s.WaitServing(2)
	s.Arm("worker-ready", harness.Pause)
	killOne(t, s)
	s.WaitStatus("the rollback to begin", func(st *control.Status) bool { return st.Change == "rollback" })
	return s
}

func TestStopDuringRollback(t *testing.T) {
	s := rollingBack(t, trialOf(t))
	s.Stop()
}

// A reload that is asked for while it is rolled back comes after it, and loads what
// stands in the file.
func TestReloadDuringRollback(t *testing.T) {
	c := trialOf(t)
	s := rollingBack(t, c)
	answered := make(chan *control.Receipt, 1)
	go func() { answered <- s.Change("reload") }()
	s.WriteConfig(answering(c, "fixed"))
	s.Disarm("worker-ready")
	if r := <-answered; !r.OK || r.Generation != 4 || r.Previous != 3 {
		t.Errorf("receipt %+v", r)
	}
	if got := kit.Body(c.Address("web")); got != "fixed\n" {
		t.Errorf("answer %q", got)
	}
	wantChanges(t, s.Status(), "start reload~ rollback reload")
}

// The remedy is under way when the third death comes: it is not undone.
func TestRemedyBeforeRollback(t *testing.T) {
	for _, change := range kit.BothChanges {
		t.Run(change, func(t *testing.T) {
			c := trialOf(t)
			s := harness.Start(t, c)
			s.WriteConfig(answering(c, "bad"))
			s.Reload()
			killOne(t, s)
			killOne(t, s)
			before := s.WaitServing(2)
			s.WriteConfig(answering(c, "fixed"))
			s.Arm("worker-ready", harness.Pause)
			answered := make(chan *control.Receipt, 1)
			go func() { answered <- s.Change(change) }()
			s.WaitHit("worker-ready")
			kit.Must(t, syscall.Kill(kit.Pids(before)[0], syscall.SIGKILL))
			s.WaitLog("rolling back")
			s.Disarm("worker-ready")
			if r := <-answered; !r.OK {
				t.Errorf("receipt %+v", r)
			}
			st := s.WaitServing(3)
			wantChanges(t, st, "start reload "+change)
			if got := kit.Body(c.Address("web")); got != "fixed\n" || st.Config.Error != "" {
				t.Errorf("answer %q, error %q", got, st.Config.Error)
			}
		})
	}
}

// What was rolled back still stands in the file. It is not loaded again by itself,
// also when it is written again; anything else is.
func TestWatcherAfterRollback(t *testing.T) {
	for _, change := range kit.BothChanges {
		t.Run(change, func(t *testing.T) {
			c := trialOf(t)
			c.Top = c.Top[1:] // watching is the default
			s := harness.Start(t, c)
			if change == "upgrade" {
				s.WriteConfig(c.With("watch: false"))
				s.Reload()
				s.WriteConfig(answering(c, "bad"))
				s.Upgrade()
			} else {
				s.WriteConfig(answering(c, "bad"))
			}
			s.Wait("the bad answer", func() bool { return kit.Body(c.Address("web")) == "bad\n" })
			s.WaitServing(2)
			killThree(t, s)
			st := waitChange(s, "rollback")
			now := time.Now()
			kit.Must(t, os.Chtimes(s.ConfigPath, now, now))
			s.WriteConfig(answering(c, "bad"))
			kit.SomeTime() // nothing is to happen
			if now := s.Status(); now.Generation != st.Generation {
				t.Fatalf("generation %d after the rollback to %d", now.Generation, st.Generation)
			}
			if change == "upgrade" {
				return // what came back doesn't watch
			}
			s.WriteConfig(answering(c, "fixed"))
			s.Wait("the remedy to be loaded", func() bool { return kit.Body(c.Address("web")) == "fixed\n" })
			st = s.WaitServing(st.Generation + 1)
			wantChanges(t, st, "start reload~ rollback reload")
			if st.Config.Error != "" {
				t.Errorf("the file's error is %q", st.Config.Error)
			}
		})
	}
}

// The remedy is written while it is rolled back, and not looked at yet when that is over.
func TestRemedyWrittenDuringRollback(t *testing.T) {
	c := trialOf(t)
	c.Top = c.Top[1:]
	s := harness.Start(t, c)
	s.WriteConfig(answering(c, "bad"))
	s.Wait("the bad answer", func() bool { return kit.Body(c.Address("web")) == "bad\n" })
	s.WaitServing(2)
	killOne(t, s)
	killOne(t, s)
	s.WaitServing(2)
	s.Arm("worker-ready", harness.Pause)
	killOne(t, s)
	s.WaitHit("worker-ready")
	s.WriteConfig(answering(c, "fixed"))
	s.Disarm("worker-ready")
	s.Wait("the remedy to be loaded", func() bool { return kit.Body(c.Address("web")) == "fixed\n" })
}

// What was can't be had any more: somebody has the address by now. What is serves
// on, all is told as it is, and no further death tries again.
func TestRollbackThatCannotStart(t *testing.T) {
	for _, change := range kit.BothChanges {
		t.Run(change, func(t *testing.T) {
			c := trialOf(t)
			more := harness.Echo("more", harness.Local(t))
			s := harness.Start(t, c.WithListeners(append(c.Listeners[:2:2], more)...))
			s.WriteConfig(answering(c, "bad"))
			kit.Replace(t, s, change)
			var taken net.Listener
			s.Wait("the removed address to be free", func() (free bool) {
				var err error
				taken, err = kit.Listen(more.Address)
				return err == nil
			})
			defer taken.Close()
			killThree(t, s)
			st := waitChange(s, "rollback")
			wantChanges(t, st, "start "+change+" rollback!")
			if !strings.Contains(st.LastChange.Error, more.Address) || !strings.Contains(st.Config.Error, "could not be brought back") {
				t.Errorf("receipt %+v, the file's error %q", st.LastChange, st.Config.Error)
			}
			killThree(t, s)
			st = s.WaitServing(2)
			wantChanges(t, st, "start "+change+" rollback!")
			if got := kit.Body(c.Address("web")); got != "bad\n" || st.Generation != 2 {
				t.Errorf("answer %q of generation %d", got, st.Generation)
			}
			taken.Close() // before the server's end looks for sockets
			s.WriteConfig(answering(c, "fixed"))
			if r := s.Change(change); !r.OK {
				t.Errorf("receipt %+v", r)
			}
			if got := kit.Body(c.Address("web")); got != "fixed\n" {
				t.Errorf("answer %q", got)
			}
		})
	}
}

// A second change before the first one has passed: back to the first, and if that
// was no better, to what was before both.
func TestTwoChangesOnProbation(t *testing.T) {
	c := trialOf(t)
	s := harness.Start(t, c)
	s.Install(harness.BuildVersion(t, "next"))
	s.WriteConfig(answering(c, "first"))
	s.Upgrade()
	s.WriteConfig(answering(c, "second"))
	s.Reload()
	killThree(t, s)
	st := waitChange(s, "rollback")
	if got := kit.Body(c.Address("web")); got != "first\n" || st.Version != "next" {
		t.Errorf("answer %q of version %s after the first rollback", got, st.Version)
	}
	killThree(t, s)
	s.WaitStatus("the version that was", func(st *control.Status) bool { return st.Version == "test" })
	st = waitChange(s, "rollback")
	if got := kit.Body(c.Address("web")); got != "hello\n" {
		t.Errorf("answer %q after the second rollback", got)
	}
	wantChanges(t, st, "start upgrade reload~ rollback~ rollback")
}

// rollingBackUpgrade has a rollback of an upgrade under way, whose next master waits
// for its workers to be let go from worker-ready.
func rollingBackUpgrade(t *testing.T, c harness.Config) *harness.Server {
	t.Helper()
	s := harness.Start(t, c)
	s.Install(harness.BuildVersion(t, "next"))
	s.WriteConfig(answering(c, "bad"))
	s.Upgrade()
	killOne(t, s)
	killOne(t, s)
	s.WaitServing(2)
	s.Arm("worker-ready", harness.Pause)
	killOne(t, s)
	s.WaitStatus("the rollback's master to get ready", func(st *control.Status) bool {
		return st.Change == "rollback" && strings.Contains(st.Progress, "version test")
	})
	return s
}

func TestStopDuringRollbackOfUpgrade(t *testing.T) {
	s := rollingBackUpgrade(t, trialOf(t))
	pid := s.PID()
	kit.Must(t, syscall.Kill(pid, syscall.SIGTERM))
	// The next master is ended for it, and then those that never got ready.
	s.WaitLog("stopping: no new connections")
	s.Disarm("worker-ready")
	if code := s.WaitPID(pid); code != 0 {
		t.Errorf("master %d ended with status %d", pid, code)
	}
	s.Wait("all processes to end", func() bool { return len(s.Processes()) == 0 })
}

// Requests that come meanwhile are for the master that comes of it.
func TestRequestsDuringRollbackOfUpgrade(t *testing.T) {
	for _, change := range kit.BothChanges {
		t.Run(change, func(t *testing.T) {
			c := trialOf(t)
			s := rollingBackUpgrade(t, c)
			answered := make(chan *control.Receipt, 1)
			go func() { answered <- s.Change(change) }()
			s.Signal(syscall.SIGHUP)
			s.WriteConfig(answering(c, "fixed"))
			s.Disarm("worker-ready")
			if r := <-answered; !r.OK || r.Action != change || r.Generation < 4 {
				t.Errorf("receipt %+v", r)
			}
			s.Wait("the remedy to be loaded", func() bool { return kit.Body(c.Address("web")) == "fixed\n" })
			st := s.WaitServing(4)
			if got := changesOf(st); !strings.HasPrefix(got, "start upgrade~ rollback ") {
				t.Errorf("changes: %s", got)
			}
		})
	}
}

// The master that is to come back does not start: what is bad serves on, as far as
// it can, and is not tried again.
func TestRollbackWhoseMasterDoesNotStart(t *testing.T) {
	c := trialOf(t)
	s := rollingBackUpgrade(t, c)
	s.Disarm("worker-ready")
	waitChange(s, "rollback")
	// This time workers of whatever generation fail.
	s.Install(harness.BuildVersion(t, "next"))
	s.WriteConfig(answering(c, "bad"))
	before := s.Upgrade()
	killOne(t, s)
	killOne(t, s)
	s.WaitServing(4)
	s.Arm("worker-ready", harness.Error)
	killOne(t, s)
	st := waitChange(s, "rollback")
	wantChanges(t, st, "start upgrade~ rollback upgrade rollback!")
	if st.PID != before.PID || st.Version != "next" || st.Generation != 4 {
		t.Errorf("generation %d of master %d, version %s", st.Generation, st.PID, st.Version)
	}
	s.Disarm("worker-ready")
	s.WaitServing(4)
	if got := kit.Body(c.Address("web")); got != "bad\n" {
		t.Errorf("answer %q", got)
	}
}
