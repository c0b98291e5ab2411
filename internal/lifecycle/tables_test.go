package lifecycle

import (
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/config"
	"reuseportd/internal/upstream"
)

var someUpstreams = []config.Upstream{{
	Name: "app", Balance: config.BalanceRoundRobin, MaxFailures: 1, CoolDown: time.Hour, ResolveEvery: time.Minute,
	Servers: []config.Server{{Network: "tcp", Address: "127.0.0.1:1", Weight: 2, MaxConnections: 9, Backup: true}},
}}

// TestStatusOfUpstreams: what the board has of the servers is shown.
func TestStatusOfUpstreams(t *testing.T) {
	w := newWorld(t)
	conf := configure(1, 1, ports(t, 1)...)
	conf.Upstreams = someUpstreams
	w.start(conf)
	w.settle()
	set, err := upstream.New(someUpstreams, w.core.board, nil)
	if err != nil {
		t.Fatal(err)
	}
	chooser, err := set.Chooser("app", 7)
	if err != nil {
		t.Fatal(err)
	}
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now)
	server, why := chooser.Pick(now.Nano(), 0, nil)
	if server == nil {
		t.Fatal(why)
	}
	chooser.Failed(server, now.Nano(), upstream.Refused)
	chooser.Done(server)
	if _, why := chooser.Pick(now.Nano(), 0, nil); why != upstream.AllDown {
		t.Fatal(why)
	}
	all := w.core.Status().Upstreams
	if len(all) != 1 || all[0].Name != "app" || all[0].Balance != "round_robin" || all[0].Sessions != 1 || all[0].TurnedAway != 1 || len(all[0].Servers) != 1 {
		t.Fatalf("%+v", all)
	}
	s := all[0].Servers[0]
	if s.Address != "127.0.0.1:1" || s.State != "ejected" || s.Weight != 2 || s.MaxConnections != 9 || !s.Backup || s.Ejections != 1 ||
		s.Failures["connection refused"] != 1 || len(s.Failures) != 1 {
		t.Errorf("%+v", s)
	}
	if s.Until == nil || time.Until(*s.Until) < 50*time.Minute || s.Since == nil || time.Since(*s.Since) > time.Minute {
		t.Errorf("since %v, until %v", s.Since, s.Until)
	}
}

// TestCountsOfClientsGo: what a dead worker had counted of clients counts no more.
func TestCountsOfClientsGo(t *testing.T) {
	w := newWorld(t)
	w.start(configure(2, 1, ports(t, 1)...))
	w.settle()
	who := netip.MustParseAddr("192.0.2.1")
	enters := func(row int) bool {
		r, err := w.core.clients.Row(row)
		if err != nil {
			t.Fatal(err)
		}
		_, ok, _ := r.Bound("tcp4!0.0.0.0:80", 1).Enter(who)
		return ok
	}
	workers := w.core.gens[0].workers
	if !enters(workers[0].page) {
		t.Fatal("the first is turned away")
	}
	if enters(workers[1].page) {
		t.Fatal("two are let in")
	}
	w.procs[0].dies("killed")
	if !enters(workers[1].page) {
		t.Error("what a dead worker had counted still counts")
	}
}

// TestRowsAreCleared: what a loop had in use goes with its worker.
func TestRowsAreCleared(t *testing.T) {
	w := newWorld(t)
	w.start(configure(2, 1, ports(t, 1)...))
	w.settle()
	victim := w.core.gens[0].workers[1]
	set, err := upstream.New(someUpstreams, w.core.board, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, wk := range w.core.gens[0].workers {
		chooser, err := set.Chooser("app", wk.page)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if s, why := chooser.Pick(1, 0, nil); s == nil {
				t.Fatal(why)
			}
		}
	}
	inUse := func(want uint64, when string) {
		t.Helper()
		if got := w.core.board.Snapshot("app")[0].InUse; got != want {
			t.Errorf("%d in use %s, want %d", got, when, want)
		}
	}
	inUse(4, "by two workers")
	for _, p := range w.procs {
		if p.w == victim {
			p.dead = true
		}
	}
	w.settle()
	inUse(2, "after one has died")
	w.reload(configure(1, 1, ports(t, 1)...))
	w.settle()
	inUse(0, "after a reload")
}
