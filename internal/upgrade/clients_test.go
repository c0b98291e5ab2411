package upgrade

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"reuseportd/internal/clients"
	"reuseportd/internal/wire"
)

// TestClientsGoOn: the next master has what the one before it had counted.
func TestClientsGoOn(t *testing.T) {
	old, next := aMaster(t), aMaster(t)
	if err := old.takeClients(-1, ""); err != nil {
		t.Fatal(err)
	}
	if err := next.takeClients(dupFD(t, old.tables.Clients.FD()), old.tables.Clients.Format()); err != nil {
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
	if _, ok, _ := at(old.tables.Clients, 7).Enter(who); !ok {
		t.Fatal("the first is turned away")
	}
	if _, ok, _ := at(next.tables.Clients, 8).Enter(who); ok {
		t.Fatal("two are let in")
	}
}

// TestClientsOfOthers: a release that has none, or another, is no reason to fail.
func TestClientsOfOthers(t *testing.T) {
	co := aMaster(t)
	if err := co.takeClients(-1, ""); err != nil {
		t.Fatal(err)
	}
	own := co.tables.Clients
	for _, format := range []string{"", own.Format()} {
		alien, err := wire.Memfd("test", []byte("what is this?"))
		if err != nil {
			t.Fatal(err)
		}
		if err := co.takeClients(alien, format); err != nil || co.tables.Clients != own {
			t.Errorf("%v, another table: %v", err, co.tables.Clients != own)
		}
		if _, err := unix.FcntlInt(uintptr(alien), unix.F_GETFD, 0); err != unix.EBADF {
			t.Errorf("what is no table stays open: %v", err)
		}
	}
}
