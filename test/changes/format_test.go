package changes

import (
	"fmt"
	"strings"
	"testing"

	"reuseportd/internal/handover"
	"reuseportd/test/harness"
	"reuseportd/test/kit"
)

// webs connects so many kept clients that are known to the server.
func webs(t *testing.T, address string, n int) []*kit.Client {
	t.Helper()
	var all []*kit.Client
	for range n {
		conn := kit.Dial(t, address)
		conn.Get()
		all = append(all, conn)
	}
	return all
}

// A release that writes a newer format reads the older one, and goes on in its own.
func TestNextFormat(t *testing.T) {
	next := harness.BuildNextFormat(t) // before any clock runs: a cold build takes longer than header_timeout
	c := harness.Default(t)
	s := harness.Start(t, c)
	kept, streams := webs(t, c.Address("web"), 10), kit.Echoes(t, c.Address("echo"), 10)
	half := kit.Dial(t, c.Address("web"))
	half.Get()
	half.Send(kit.Get[:20])
	s.Install(next)
	for _, change := range []string{"upgrade", "upgrade", "reload"} {
		if r := kit.Replace(t, s, change); r.HandedOver != 21 || r.Finished > 0 || r.Version != "nextformat" {
			t.Errorf("receipt %+v, want 21 handed over to the version nextformat", r)
		}
	}
	half.Send(kit.Get[20:])
	half.WantKept("hello\n")
	for i := range kept {
		kept[i].Send(kit.Get)
		kept[i].WantKept("hello\n")
		streams[i].Echo("still here")
	}
}

// A release that doesn't know the format says so. The sender keeps what it has and
// drains it as if there were no handover: nobody is lost who can be told.
func TestUnknownFormat(t *testing.T) {
	const n, m = 150, 6 // more than an offer holds
	c := harness.Default(t).With("drain_timeout: 8s", "probation: 0s")
	s := harness.Prepare(t, c)
	s.Install(harness.BuildNextFormat(t))
	s.Run()
	s.WaitServing(1)
	kept, streams := webs(t, c.Address("web"), n), kit.Echoes(t, c.Address("echo"), m)
	s.Install(harness.Build(t))
	answered := drainedInBackground(s, "upgrade")
	s.WaitGeneration(2)
	s.WaitLog(fmt.Sprintf("unknown format %d: this release knows up to %d", handover.Format+1, handover.Format))
	for _, conn := range kept {
		if answers := conn.UntilClose("hello\n"); answers > 3 {
			t.Errorf("%d answers before the connection closed", answers)
		}
	}
	for _, conn := range streams {
		conn.Echo("served to the end")
	}
	for _, conn := range streams {
		conn.WantEnd()
	}
	r := <-answered
	got := kit.ParseReceipt(t, r.Stdout)
	if r.Code != 0 || got.Version != "test" || got.HandedOver != 0 || got.Finished != n || got.Cut != m {
		t.Errorf("status %d, receipt %+v; want %d finished and %d cut", r.Code, got, n, m)
	}
	if log := s.Log(); !strings.Contains(log, "connections were not taken over") || !strings.Contains(log, "drain_timeout has passed") {
		t.Error("the sender's log doesn't say what becomes of them")
	}
	// New ones are nobody's problem, and go along again.
	conn := webs(t, c.Address("web"), 1)[0]
	kit.Replace(t, s, "reload")
	conn.Send(kit.Get)
	conn.WantKept("hello\n")
}

// Back to the older release by a rollback: what can't go along is told.
func TestRollbackToOlderFormat(t *testing.T) {
	next := harness.BuildNextFormat(t)
	c := trialOf(t).WithWorkers(3)
	s := harness.Start(t, c)
	s.Install(next)
	conn := webs(t, c.Address("web"), 1)[0]
	kit.Replace(t, s, "upgrade")
	killThree(t, s)
	if st := waitChange(s, "rollback"); st.Version != "test" {
		t.Errorf("version %s", st.Version)
	}
	conn.UntilClose("hello\n")
	if st := s.WaitServing(3); st.Totals.Cut > 0 {
		t.Errorf("%d connections were cut", st.Totals.Cut)
	}
}
