package wire

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestMessageArrivesAsSent(t *testing.T) {
	a, b := pair(t)
	want := Lend{Seq: 7, Leases: []Lease{{Key: "tcp4!127.0.0.1:80", Index: 1, Slot: 3}}}
	fds := files(t, 2)
	if err := a.Send(KindLend, want, fds...); err != nil {
		t.Fatal(err)
	}
	m, err := b.Recv()
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	var got Lend
	if err := m.Decode(&got); err != nil {
		t.Fatal(err)
	}
	if m.Version != Version || m.Kind != KindLend || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got version %d, %s %+v", m.Version, m.Kind, got)
	}
	if len(m.FDs) != len(fds) {
		t.Fatalf("got %d descriptors", len(m.FDs))
	}
	for _, fd := range m.FDs {
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("descriptor %d: flags %#x, %v: want close-on-exec", fd, flags, err)
		}
	}
}

func TestTakenDescriptorsAreTheCallers(t *testing.T) {
	a, b := pair(t)
	if err := a.Send(KindLogs, nil, files(t, 2)...); err != nil {
		t.Fatal(err)
	}
	m, err := b.Recv()
	if err != nil {
		t.Fatal(err)
	}
	fd := m.Take(1)
	m.Close()
	m.Close()
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil {
		t.Errorf("taken descriptor: %v", err)
	}
	_ = unix.Close(fd)
	if m.Take(1) != -1 || m.Take(0) != -1 || m.Take(2) != -1 || m.Take(-1) != -1 {
		t.Error("took a descriptor that isn't there")
	}
}

func TestAsManyDescriptorsAsTheKernelPasses(t *testing.T) {
	a, b := pair(t)
	fds := files(t, MaxFDs)
	if err := a.Send(KindLend, Lend{}, fds...); err != nil {
		t.Fatal(err)
	}
	m, err := b.Recv()
	if err != nil {
		t.Fatal(err)
	}
	if len(m.FDs) != MaxFDs {
		t.Errorf("got %d descriptors", len(m.FDs))
	}
	m.Close()
	if err := a.Send(KindLend, Lend{}, append(fds, fds[0])...); !errors.Is(err, ErrTooLarge) {
		t.Errorf("one more: %v", err)
	}
}

func TestLargestBody(t *testing.T) {
	a, b := pair(t)
	text := strings.Repeat("x", MaxBody-2) // and two quotes
	if err := a.Send(KindBye, text); err != nil {
		t.Fatal(err)
	}
	m, err := b.Recv()
	if err != nil || len(m.Body) != MaxBody {
		t.Errorf("got %d bytes, %v", len(m.Body), err)
	}
	if err := a.Send(KindBye, text+"x"); !errors.Is(err, ErrTooLarge) {
		t.Errorf("one more: %v", err)
	}
}

func TestEveryKindHasAName(t *testing.T) {
	names := map[string]Kind{}
	for k, name := range kindNames {
		if other, ok := names[name]; ok || !k.Known() || k.String() != name {
			t.Errorf("kind %d is %q, as is %d", k, name, other)
		}
		names[name] = k
	}
	if Kind(0).Known() || Kind(999).String() != "kind 999" {
		t.Error("an unknown kind has a name")
	}
}
