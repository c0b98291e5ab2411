package upgrade

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"reuseportd/internal/clients"
	"reuseportd/internal/wire"
)

// TestClientsGoOn: the next master has what the one before it had counted, and frees it when
// the worker that counted has died.
func TestClientsGoOn(t *testing.T) {
	old, w := aMaster(t), newWorld(t)
	if err := old.takeClients(-1, ""); err != nil {
		t.Fatal(err)
	}
	next := &coordinator{core: w.core, log: w.core.log}
	if err := next.takeClients(dupFD(t, old.core.clients.FD()), old.core.clients.Format()); err != nil {
		t.Fatal(err)
	}
	who := netip.MustParseAddr("192.0.2.1")
	at := func(table *clients.Table, row int) *clients.Bound {
		r, err := table.Row(row)
		if err != nil {
			t.Fatal(err)
		}
		return r.Bound("tcp4!0.0.0.0:80", 1)
	}
	dies, other := at(old.core.clients, 7), at(next.core.clients, 8)
	if _, ok, _ := dies.Enter(who); !ok {
		t.Fatal("the first is turned away")
	}
	if _, ok, _ := other.Enter(who); ok {
		t.Fatal("two are let in")
	}
	w.core.account(&worker{gen: &generation{}, page: 7, slots: []int{0}}, "killed")
	if _, ok, _ := other.Enter(who); !ok {
		t.Error("what a dead worker had counted still counts")
	}
}

// TestClientsOfOthers: a release that has none, or another, is no reason to fail.
func TestClientsOfOthers(t *testing.T) {
	co := aMaster(t)
	if err := co.takeClients(-1, ""); err != nil {
		t.Fatal(err)
	}
	own := co.core.clients
	for _, format := range []string{"", own.Format()} {
		alien, err := wire.Memfd("test", []byte("what is this?"))
		if err != nil {
			t.Fatal(err)
		}
		if err := co.takeClients(alien, format); err != nil || co.core.clients != own {
			t.Errorf("%v, another table: %v", err, co.core.clients != own)
		}
		if _, err := unix.FcntlInt(uintptr(alien), unix.F_GETFD, 0); err != unix.EBADF {
			t.Errorf("what is no table stays open: %v", err)
		}
	}
}
