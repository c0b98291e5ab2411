package test

import (
	"fmt"
	"strings"
	"testing"

	"reuseportd/internal/handover"
	"reuseportd/test/harness"
)

// untilClose asks until an answer says that the connection closes, and wants that.
func (c *client) untilClose(body string) (answers int) {
	c.t.Helper()
	for {
		resp, text := c.get()
		if answers++; text != body {
			c.t.Fatalf("answer %q", text)
		}
		if resp.Close {
			c.wantEOF()
			return answers
		}
	}
}

// webs connects so many kept clients that are known to the server.
func webs(t *testing.T, address string, n int) []*client {
	t.Helper()
	var all []*client
	for range n {
		conn := dial(t, address)
		conn.get()
		all = append(all, conn)
	}
	return all
}

// A release that writes a newer format reads the older one, and goes on in its own.
func TestNextFormat(t *testing.T) {
	next := harness.BuildNextFormat(t) // before any clock runs: a cold build takes longer than header_timeout
	c := harness.Default(t)
	s := harness.Start(t, c)
	kept, streams := webs(t, c.Address("web"), 10), echoes(t, c.Address("echo"), 10)
	half := dial(t, c.Address("web"))
	half.get()
	half.send(get[:20])
	s.Install(next)
	for _, change := range []string{"upgrade", "upgrade", "reload"} {
		if r := replace(t, s, change); r.HandedOver != 21 || r.Finished > 0 || r.Version != "nextformat" {
			t.Errorf("receipt %+v, want 21 handed over to the version nextformat", r)
		}
	}
	half.send(get[20:])
	half.wantKept("hello\n")
	for i := range kept {
		kept[i].send(get)
		kept[i].wantKept("hello\n")
		streams[i].echo("still here")
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
	kept, streams := webs(t, c.Address("web"), n), echoes(t, c.Address("echo"), m)
	s.Install(harness.Build(t))
	answered := drainedInBackground(s, "upgrade")
	s.WaitGeneration(2)
	s.WaitLog(fmt.Sprintf("unknown format %d: this release knows up to %d", handover.Format+1, handover.Format))
	for _, conn := range kept {
		if answers := conn.untilClose("hello\n"); answers > 3 {
			t.Errorf("%d answers before the connection closed", answers)
		}
	}
	for _, conn := range streams {
		conn.echo("served to the end")
	}
	for _, conn := range streams {
		conn.wantEnd()
	}
	r := <-answered
	got := parseReceipt(t, r.Stdout)
	if r.Code != 0 || got.Version != "test" || got.HandedOver != 0 || got.Finished != n || got.Cut != m {
		t.Errorf("status %d, receipt %+v; want %d finished and %d cut", r.Code, got, n, m)
	}
	if log := s.Log(); !strings.Contains(log, "connections were not taken over") || !strings.Contains(log, "drain_timeout has passed") {
		t.Error("the sender's log doesn't say what becomes of them")
	}
	// New ones are nobody's problem, and go along again.
	conn := webs(t, c.Address("web"), 1)[0]
	replace(t, s, "reload")
	conn.send(get)
	conn.wantKept("hello\n")
}

// Back to the older release by a rollback: what can't go along is told.
func TestRollbackToOlderFormat(t *testing.T) {
	next := harness.BuildNextFormat(t)
	c := trialOf(t).WithWorkers(3)
	s := harness.Start(t, c)
	s.Install(next)
	conn := webs(t, c.Address("web"), 1)[0]
	replace(t, s, "upgrade")
	killThree(t, s)
	if st := waitChange(s, "rollback"); st.Version != "test" {
		t.Errorf("version %s", st.Version)
	}
	conn.untilClose("hello\n")
	if st := s.WaitServing(3); st.Totals.Cut > 0 {
		t.Errorf("%d connections were cut", st.Totals.Cut)
	}
}
