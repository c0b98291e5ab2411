package changes

import (
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"reuseportd/internal/control"
	"reuseportd/test/harness"
	"reuseportd/test/kit"
)

// drainedInBackground runs a change with --drained.
func drainedInBackground(s *harness.Server, change string) <-chan harness.Result {
	answered := make(chan harness.Result, 1)
	go func() { answered <- s.CLI(change, "--drained", "--json") }()
	return answered
}

// The counts add up to what was open at the cut-over, and the times are those that
// went by.
func TestDrainedCountsExactly(t *testing.T) {
	for _, change := range kit.BothChanges {
		t.Run(change, func(t *testing.T) {
			const handed, finished, cut = 40, 7, 5
			c := harness.Default(t).With("drain_timeout: 5s")
			both, more := kit.Without(t, c)
			s := harness.Start(t, both)
			kit.Echoes(t, c.Address("echo"), handed)
			end := kit.Echoes(t, more, finished)
			kit.Echoes(t, more, cut)
			s.WriteConfig(c)
			asked := time.Now()
			answered := drainedInBackground(s, change)
			s.WaitGeneration(2)
			for _, conn := range end {
				conn.Close()
			}
			r := <-answered
			took := time.Since(asked)
			got := kit.ParseReceipt(t, r.Stdout)
			if r.Code != 0 || got.HandedOver != handed || got.Finished != finished || got.Cut != cut || !got.Drained {
				t.Errorf("status %d, receipt %+v; want %d handed over, %d finished, %d cut", r.Code, got, handed, finished, cut)
			}
			if got.DrainedMS < 4900 || got.DrainedMS > float64(took.Milliseconds()) {
				t.Errorf("drained after %v ms of %v, with a drain_timeout of 5 s", got.DrainedMS, took)
			}
			if got.HandoverMS <= 0 || got.HandoverMS > got.DrainedMS {
				t.Errorf("handed over in %v ms, drained after %v ms", got.HandoverMS, got.DrainedMS)
			}
			ready := time.Duration(got.ReadyMS * float64(time.Millisecond))
			if got.Started.Before(asked) || got.CutOver.Before(got.Started) || got.CutOver.After(got.Started.Add(ready+time.Millisecond)) ||
				ready <= 0 || ready > took {
				t.Errorf("asked %v, started %v, cut-over %v, ready after %v", asked, got.Started, got.CutOver, ready)
			}
			last := s.WaitServing(2).LastChange
			if !reflect.DeepEqual(*last, got) {
				t.Errorf("status has the receipt %+v, the command had %+v", *last, got)
			}
		})
	}
}

// The time of an upgrade counts from the request, also in the words of the master
// that came of it.
func TestReadyTimeOfUpgrade(t *testing.T) {
	s := harness.Start(t, harness.Default(t))
	first, again := s.Upgrade(), s.WaitServing(2).LastChange
	if !again.Started.Equal(first.Started) || again.ReadyMS <= 0 || again.ReadyMS > first.ReadyMS+1 {
		t.Errorf("the old master says started %v, ready after %v ms; the next one %v and %v",
			first.Started, first.ReadyMS, again.Started, again.ReadyMS)
	}
}

// The last twenty changes are kept, whichever master made them.
func TestTwentyReceipts(t *testing.T) {
	c := harness.Default(t)
	s := harness.Start(t, c)
	var made []string
	for i := range 24 {
		switch {
		case i%8 == 3:
			s.Upgrade()
			made = append(made, "upgrade")
		case i%4 == 1:
			s.WriteConfigText("no: good")
			s.Change("reload")
			s.WriteConfig(c)
			made = append(made, "reload!")
		default:
			s.Reload()
			made = append(made, "reload")
		}
		st := s.WaitGeneration(s.Status().Generation)
		want := append([]string{"start"}, made...)
		want = want[max(0, len(want)-20):]
		wantChanges(t, st, strings.Join(want, " "))
		for j, r := range st.Receipts[1:] {
			if before := st.Receipts[j]; r.Started.Before(before.Started) || r.OK && (r.Previous != before.Generation || r.Generation != r.Previous+1) {
				t.Fatalf("change %d: receipt %+v follows %+v", i, r, before)
			}
		}
	}
	s.Stop()
}

// One who waits for the end of a generation is answered by whichever master sees it.
func TestChangesWhileDrainedIsWaitedFor(t *testing.T) {
	for _, first := range kit.BothChanges {
		for _, second := range kit.BothChanges {
			t.Run(first+" "+second, func(t *testing.T) {
				c := harness.Default(t).With("drain_timeout: 1m")
				both, more := kit.Without(t, c)
				s := harness.Start(t, both)
				kit.Echoes(t, c.Address("echo"), 3)
				pin := kit.Echoes(t, more, 1)[0]
				s.WriteConfig(c)
				answered := drainedInBackground(s, first)
				s.WaitGeneration(2)
				for range 2 {
					if r := s.Change(second); !r.OK {
						t.Errorf("receipt %+v", r)
					}
				}
				select {
				case r := <-answered:
					t.Fatalf("answered while the generation drains: %+v", r)
				default:
				}
				pin.Close()
				r := <-answered
				got := kit.ParseReceipt(t, r.Stdout)
				if r.Code != 0 || got.Action != first || got.Generation != 2 || got.Previous != 1 ||
					got.HandedOver != 3 || got.Finished != 1 || got.Cut != 0 || !got.Drained {
					t.Errorf("status %d, receipt %+v %s", r.Code, got, r.Stderr)
				}
			})
		}
	}
}

// Changes that fail meanwhile may be many: the receipt that is waited for is not
// lost with those that are not kept any more.
func TestManyReceiptsWhileDrainedIsWaitedFor(t *testing.T) {
	c := harness.Default(t).With("drain_timeout: 1m")
	both, more := kit.Without(t, c)
	s := harness.Start(t, both)
	pin := kit.Echoes(t, more, 1)[0]
	s.WriteConfig(c)
	answered := drainedInBackground(s, "reload")
	s.WaitGeneration(2)
	kit.SomeTime() // so that the command has asked for the end
	s.WriteConfigText("no: good")
	for range 25 {
		s.Change("reload")
	}
	pin.Close()
	if r := <-answered; r.Code != 0 || kit.ParseReceipt(t, r.Stdout).Finished != 1 {
		t.Errorf("status %d: %s%s", r.Code, r.Stdout, r.Stderr)
	}
}

func TestStopWhileDrainedIsWaitedFor(t *testing.T) {
	for _, change := range kit.BothChanges {
		t.Run(change, func(t *testing.T) {
			c := harness.Default(t).With("drain_timeout: 1m")
			both, more := kit.Without(t, c)
			s := harness.Start(t, both)
			pin := kit.Echoes(t, more, 1)[0]
			s.WriteConfig(c)
			answered := drainedInBackground(s, change)
			s.WaitGeneration(2)
			kit.SomeTime() // so that the command has asked for the end
			stopped := make(chan struct{})
			go func() { defer close(stopped); s.Stop() }()
			s.WaitStatus("the stop to begin", func(st *control.Status) bool { return st.Change == "stop" })
			pin.Close()
			r := <-answered
			<-stopped
			if got := kit.ParseReceipt(t, r.Stdout); r.Code != 0 || !got.Drained || got.Finished != 1 || got.Cut != 0 {
				t.Errorf("status %d, receipt %+v %s", r.Code, got, r.Stderr)
			}
		})
	}
}

// A person at a terminal sees how far it is; a program sees the outcome alone.
func TestProgressOnTerminal(t *testing.T) {
	for _, change := range kit.BothChanges {
		t.Run(change, func(t *testing.T) {
			c := harness.Default(t).With("drain_timeout: 1m", "start_timeout: 30s")
			both, more := kit.Without(t, c)
			s := harness.Start(t, both)
			pin := kit.Echoes(t, more, 1)[0]
			s.WriteConfig(c)
			s.Arm("worker-ready", harness.Pause)
			term := s.Terminal(true, change, "--drained")
			term.WaitText("getting ready")
			s.Disarm("worker-ready")
			term.WaitText("generation 1 drains: 1 connection left")
			pin.Close()
			if code := term.Wait(); code != 0 || !strings.Contains(term.Text(), change+" done: generation 2 serves") ||
				!strings.Contains(term.Text(), "1 finished") {
				t.Errorf("status %d:\n%s", code, term.Text())
			}
			for i, line := range strings.Split(strings.TrimSpace(term.Text()), "\n") {
				if strings.Count(term.Text(), line+"\n") != 1 {
					t.Errorf("line %d is there more than once: %s", i, line)
				}
			}
		})
	}
}

func TestNoProgressForPrograms(t *testing.T) {
	c := harness.Default(t).With("start_timeout: 30s")
	s := harness.Start(t, c)
	held := func(do func()) { // for as long as progress would take to show
		s.Arm("worker-ready", harness.Pause)
		var wg sync.WaitGroup
		wg.Go(do)
		s.WaitHit("worker-ready")
		kit.SomeTime()
		s.Disarm("worker-ready")
		wg.Wait()
	}
	for _, change := range kit.BothChanges {
		held(func() {
			term := s.Terminal(false, change, "--json")
			if code := term.Wait(); code != 0 || term.Text() != "" || !kit.ParseReceipt(t, term.Stdout.String()).OK {
				t.Errorf("%s --json: status %d, on the terminal %q, on standard output %s", change, code, term.Text(), term.Stdout.String())
			}
		})
		held(func() {
			if r := s.CLI(change); r.Code != 0 || r.Stderr != "" || strings.Count(r.Stdout, "\n") != 1 {
				t.Errorf("%s into a pipe: status %d, %q, %q", change, r.Code, r.Stdout, r.Stderr)
			}
		})
	}
}

func TestDrainedOfUnknownGeneration(t *testing.T) {
	s := harness.Start(t, harness.Default(t))
	c, err := control.Dial(s.RuntimeDir, false)
	kit.Must(t, err)
	defer c.Close()
	r, err := c.Do(t.Context(), control.Request{Command: "drained", Generation: 99})
	if err == nil || !strings.Contains(err.Error(), fmt.Sprint(99)) {
		t.Errorf("answer %+v, error %v", r, err)
	}
}
