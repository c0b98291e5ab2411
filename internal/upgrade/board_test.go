package upgrade

import (
	"testing"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"reuseportd/internal/config"
	"reuseportd/internal/lifecycle"
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
	co := &coordinator{log: zerolog.Nop(), procs: make(map[lifecycle.ID]*proc), gens: make(map[uint64]*genFiles)}
	co.core = lifecycle.New(co.log, "test", 1, 0, time.Now())
	t.Cleanup(func() {
		if b := co.tables.Board; b != nil {
			_ = b.Close()
		}
		if c := co.tables.Clients; c != nil {
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
	use(t, old.tables.Board)
	if err := next.takeBoard(dupFD(t, old.tables.Board.FD()), upstream.Format); err != nil {
		t.Fatal(err)
	}
	snapshot := next.tables.Board.Snapshot("app")
	if len(snapshot) != 1 {
		t.Fatalf("%+v", snapshot)
	}
	s := snapshot[0]
	if counts := next.tables.Board.Upstream("app"); counts.Sessions != 1 || counts.TurnedAway != 1 || s.State.String() != "ejected" || s.Ejections != 1 {
		t.Errorf("%+v, %+v", counts, s)
	}
}

// TestBoardOfOthers: a release that has none, or another, is no reason to fail.
func TestBoardOfOthers(t *testing.T) {
	co := aMaster(t)
	if err := co.takeBoard(-1, ""); err != nil {
		t.Fatal(err)
	}
	own := co.tables.Board
	alien, err := wire.Memfd("test", []byte("what is this?"))
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range []int{-1, alien} { // from orphans, say
		if err := co.takeBoard(fd, ""); err != nil || co.tables.Board != own {
			t.Errorf("%v, another board: %v", err, co.tables.Board != own)
		}
	}
	if _, err := unix.FcntlInt(uintptr(alien), unix.F_GETFD, 0); err != unix.EBADF {
		t.Errorf("what is no board stays open: %v", err)
	}
}
