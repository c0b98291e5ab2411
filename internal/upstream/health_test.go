package upstream

import (
	"maps"
	"testing"
	"time"

	"reuseportd/internal/config"
)

const second = int64(time.Second)

func TestEjection(t *testing.T) {
	told := newEvents()
	b := newBoard(t)
	s := newSet(t, b, told.tell, app(config.BalanceRoundRobin, 1, 1))
	c := newChooserOf(t, s, 0)
	other := newChooserOf(t, newSet(t, reopened(t, b), told.tell, app(config.BalanceRoundRobin, 1, 1)), 1)
	bad := c.Find("10.0.0.1:80")
	same := other.Find("10.0.0.1:80")
	now := second
	wantPicks := func(want string) {
		t.Helper()
		for _, c := range []*Chooser{c, other} {
			got := map[rune]bool{}
			for _, r := range picks(c, now, 4) {
				got[r] = true
			}
			wanted := map[rune]bool{}
			for _, r := range want {
				wanted[r] = true
			}
			if !maps.Equal(got, wanted) {
				t.Errorf("%v are chosen, want %s", got, want)
			}
		}
	}
	fail := func(c *Chooser, s *Server, r Reason, ejects bool) {
		t.Helper()
		if c.Failed(s, now, r) != ejects {
			t.Errorf("ejected: %v", !ejects)
		}
	}

	// Two failures, then a success: the row begins anew. Failures of this machine are none of it.
	fail(c, bad, Refused, false)
	fail(other, same, Refused, false)
	c.Succeeded(bad, now)
	fail(c, bad, Refused, false)
	fail(c, bad, NoDescriptors, false)
	fail(c, bad, NoPorts, false)
	fail(other, same, ConnectTimeout, false)
	wantPicks("12")
	told.want(t)

	// The third in a row, whichever loops they were in.
	fail(c, bad, Refused, true)
	fail(other, same, Refused, false)
	told.want(t, "server 10.0.0.1:80 of upstream app is ejected: 3 failures in a row (connection refused); it is tried again in 10s")
	wantPicks("2")

	// What began before says nothing any more.
	c.Succeeded(bad, now+second)
	now += 10*second - 1
	wantPicks("2")
	now++
	wantPicks("12")

	// After the cool-down one failure suffices.
	fail(other, same, Reset, true)
	told.want(t, "server 10.0.0.1:80 of upstream app is ejected: 5 failures in a row (connection reset); it is tried again in 10s")
	wantPicks("2")
	now += 10 * second
	wantPicks("12")
	c.Succeeded(bad, now)
	c.Succeeded(bad, now)
	other.Succeeded(same, now)
	told.want(t, "server 10.0.0.1:80 of upstream app is up: it has answered after its cool-down")
	fail(c, bad, Reset, false)
	wantPicks("12")
}

func TestNeverEjected(t *testing.T) {
	u := app(config.BalanceRoundRobin, 1)
	u.MaxFailures = 0
	c := newChooserOf(t, newSet(t, newBoard(t), nil, u), 0)
	for range 100 {
		if c.Failed(c.Find("10.0.0.1:80"), 1, Refused) {
			t.Fatal("ejected")
		}
	}
	if got := picks(c, 2, 1); got != "1" {
		t.Error(got)
	}
}

// After the cool-down the weight grows from nothing.
func TestSlowStart(t *testing.T) {
	u := app(config.BalanceRoundRobin, 4, 4)
	u.SlowStart = 8 * time.Second
	c := newChooserOf(t, newSet(t, newBoard(t), nil, u), 0)
	bad := c.Find("10.0.0.1:80")
	for range 3 {
		c.Failed(bad, second, Refused)
	}
	share := func(now int64) (n int) {
		for _, r := range picks(c, now, 600) {
			if r == '1' {
				n++
			}
		}
		return n
	}
	for _, test := range []struct {
		at         int64
		least, max int
	}{
		{10 * second, 0, 0},
		{11 * second, 0, 2},     // nearly nothing
		{13 * second, 118, 122}, // a quarter to four quarters
		{15 * second, 198, 202}, // a half to a whole
		{19 * second, 300, 300},
	} {
		if n := share(test.at); n < test.least || n > test.max {
			t.Errorf("after %v: %d of 600, want %d to %d", time.Duration(test.at), n, test.least, test.max)
		}
	}
}

func TestChecksInARow(t *testing.T) {
	told := newEvents()
	b := newBoard(t)
	u := app(config.BalanceRoundRobin, 1, 1)
	u.SlowStart = time.Second
	u.Check = &config.Check{Interval: time.Second, Timeout: time.Second, Rise: 2, Fall: 3}
	c := newChooserOf(t, newSet(t, b, told.tell, u), 0)
	s := c.Find("10.0.0.1:80")
	now := monotonic()
	wantState := func(want State) {
		t.Helper()
		if got := b.Snapshot("app")[0]; got.State != want {
			t.Errorf("%s, want %s", got.State, want)
		}
	}
	for _, why := range []string{"x", "x", "", "x", "x"} {
		s.checked(now, why)
	}
	told.want(t)
	wantState(Up)
	s.checked(now, "connection refused")
	told.want(t, "server 10.0.0.1:80 of upstream app is down: 3 checks in a row failed (connection refused)")
	wantState(Down)
	if got := picks(c, now, 4); got != "2222" {
		t.Error(got)
	}
	for range 3 { // it is down and fails: it is down until checks succeed
		c.Failed(s, now, Refused)
	}
	told.want(t, "server 10.0.0.1:80 of upstream app is ejected: 3 failures in a row (connection refused); it is tried again in 10s")
	s.checked(now, "")
	s.checked(now, "x")
	s.checked(now, "")
	wantState(Down)
	s.checked(now+2*second, "")
	told.want(t, "server 10.0.0.1:80 of upstream app is up: 2 checks in a row succeeded, after 2s")
	wantState(SlowStart)
	if got := b.Snapshot("app")[0]; got.ChecksOK != 4 || got.ChecksFailed != 6 || got.Since.IsZero() || got.Until.Sub(got.Since) != time.Second {
		t.Errorf("%+v", got)
	}
}

// A configuration without checks or ejection doesn't leave a server as they had it.
func TestStatesThatTheConfigurationDoesNotKnow(t *testing.T) {
	b := newBoard(t)
	u := app(config.BalanceRoundRobin, 1)
	u.Check = &config.Check{Fall: 1, Rise: 1}
	c := newChooserOf(t, newSet(t, b, nil, u), 0)
	s := c.Find("10.0.0.1:80")
	s.checked(second, "x")
	for range 3 {
		c.Failed(s, monotonic(), Refused)
	}
	// The same again: the state stays, whatever the weight.
	u.Servers = append([]config.Server(nil), u.Servers...)
	u.Servers[0].Weight = 7
	same := newChooserOf(t, newSet(t, b, nil, u), 0)
	if got, _ := pick(same, monotonic(), 0, nil); got != AllDown.String() {
		t.Error(got)
	}
	if got := b.Snapshot("app")[0]; got.State != Down || got.Weight != 7 || got.Failures[Refused] != 3 {
		t.Errorf("%+v", got)
	}
	u.Check, u.MaxFailures = nil, 0
	other := newChooserOf(t, newSet(t, b, nil, u), 0)
	if got, _ := pick(other, monotonic(), 0, nil); got != "1" {
		t.Error(got)
	}
	if got := b.Snapshot("app")[0]; got.State != Up {
		t.Errorf("%+v", got)
	}
}
