package upgrade

import (
	"testing"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"reuseportd/internal/config"
	"reuseportd/internal/upstream"
	"reuseportd/internal/wire"
)

func dupFD(t *testing.T, fd int) int {
	t.Helper()
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		t.Fatal(err)
	}
	return dup
}

// aMaster is a coordinator that has nothing yet.
func aMaster(t *testing.T) *coordinator {
	co := &coordinator{log: zerolog.Nop()}
	co.core = newCore(co, co.log, "test", 1, time.Now())
	t.Cleanup(func() {
		if b := co.core.board; b != nil {
			_ = b.Close()
		}
		if c := co.core.clients; c != nil {
			_ = c.Close()
		}
	})
	return co
}

var someUpstreams = []config.Upstream{{
	Name: "app", Balance: config.BalanceRoundRobin, MaxFailures: 1, CoolDown: time.Hour, ResolveEvery: time.Minute,
	Servers: []config.Server{{Network: "tcp", Address: "127.0.0.1:1", Weight: 2, MaxConnections: 9, Backup: true}},
}}

// use has a loop with the row 7 take the server, which fails and is ejected.
func use(t *testing.T, b *upstream.Board) {
	t.Helper()
	set, err := upstream.New(someUpstreams, b, nil)
	if err != nil {
		t.Fatal(err)
	}
	chooser, err := set.Chooser("app", 7)
	if err != nil {
		t.Fatal(err)
	}
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now)
	s, why := chooser.Pick(now.Nano(), 0, nil)
	if s == nil {
		t.Fatal(why)
	}
	chooser.Failed(s, now.Nano(), upstream.Refused)
	chooser.Done(s)
	if _, why := chooser.Pick(now.Nano(), 0, nil); why != upstream.AllDown {
		t.Fatal(why)
	}
}

// TestBoardGoesOn: the next master has what the one before it knew, and shows it.
func TestBoardGoesOn(t *testing.T) {
	old, next := aMaster(t), aMaster(t)
	if err := old.takeBoard(-1, ""); err != nil {
		t.Fatal(err)
	}
	use(t, old.core.board)
	if err := next.takeBoard(dupFD(t, old.core.board.FD()), upstream.Format); err != nil {
		t.Fatal(err)
	}
	next.core.gens = []*generation{{state: serving, conf: &config.Config{Upstreams: someUpstreams}}}
	all := next.core.upstreams()
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

// TestBoardOfOthers: a release that has none, or another, is no reason to fail.
func TestBoardOfOthers(t *testing.T) {
	co := aMaster(t)
	if err := co.takeBoard(-1, ""); err != nil {
		t.Fatal(err)
	}
	own := co.core.board
	alien, err := wire.Memfd("test", []byte("what is this?"))
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range []int{-1, alien} { // from orphans, say
		if err := co.takeBoard(fd, ""); err != nil || co.core.board != own {
			t.Errorf("%v, another board: %v", err, co.core.board != own)
		}
	}
	if _, err := unix.FcntlInt(uintptr(alien), unix.F_GETFD, 0); err != unix.EBADF {
		t.Errorf("what is no board stays open: %v", err)
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
