package shard

import (
	"testing"

	"golang.org/x/sys/unix"
)

// dups are the group's descriptors as another process would receive them.
func dups(t *testing.T, g *Group) []int {
	t.Helper()
	var fds []int
	for _, fd := range g.FDs() {
		fd, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
		must(t, err)
		fds = append(fds, fd)
	}
	return fds
}

// adopted passes the group on and forgets it.
func adopted(t *testing.T, g *Group) *Group {
	t.Helper()
	next, err := Adopt(g.Key(), dups(t, g))
	must(t, err)
	t.Cleanup(func() { must(t, next.Remove()) })
	must(t, g.Detach())
	must(t, next.check())
	return next
}

func TestAdoptedGroupGoesOn(t *testing.T) {
	l := tcp4(t)
	g := listening(t, l, 3)
	must(t, g.Steer(1))
	must(t, g.Bind(4))
	dial(t, g)
	next := adopted(t, g)
	must(t, next.Update(l))
	if next.Len() != 4 || next.Listening() != 3 || next.hidden != 4 || next.Refused() {
		t.Errorf("adopted %+v", next)
	}
	accept(t, next, 0)
	must(t, next.Unsteer()) // which next never attached
	must(t, next.Unsteer())
	must(t, next.Listen())
	expectIndexIsSlot(t, next)
}

func TestAdoptionSeesWhatWasBegun(t *testing.T) {
	t.Run("removal", func(t *testing.T) {
		g := listening(t, tcp4(t), 2)
		must(t, g.Refuse())
		if next := adopted(t, g); !next.Refused() || next.hidden != 0 {
			t.Errorf("adopted %+v", next)
		}
	})
	t.Run("retirement", func(t *testing.T) {
		g := listening(t, tcp4(t), 4)
		must(t, g.Steer(2))
		must(t, g.hideFrom(2))
		next := adopted(t, g)
		if next.hidden != 2 || next.Refused() {
			t.Errorf("adopted %+v", next)
		}
		if err := next.Bind(5); err == nil {
			t.Error("grew a group whose top is about to be closed")
		}
		must(t, next.CloseDown(next.hidden))
		must(t, next.Unsteer())
		must(t, next.Bind(4))
		must(t, next.Listen())
		expectIndexIsSlot(t, next)
	})
	t.Run("unlinked", func(t *testing.T) {
		g := listening(t, unixListener(t), 1)
		must(t, g.Refuse())
		if next := adopted(t, g); !next.Refused() {
			t.Errorf("adopted %+v", next)
		}
	})
}

func TestAdoptRefuses(t *testing.T) {
	checkFDs(t)
	l := tcp4(t)
	one, other := listening(t, l, 2), listening(t, tcp4(t), 1)
	six, local := listening(t, tcp6(t), 1), listening(t, unixListener(t), 1)
	late := newGroup(t, l)
	must(t, late.Bind(1))
	plain := stranger(t, tcp4(t))
	for name, fds := range map[string][]int{
		"nothing":              nil,
		"another port":         {one.FD(0), other.FD(0)},
		"another family":       {six.FD(0)},
		"a Unix socket":        {local.FD(0)},
		"a socket unshared":    {plain},
		"a hole in the middle": {one.FD(0), late.FD(0), one.FD(1)},
		"not a socket":         {0},
	} {
		t.Run(name, func(t *testing.T) {
			checkFDs(t)
			mine := make([]int, len(fds))
			for i, fd := range fds {
				dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
				must(t, err)
				mine[i] = dup
			}
			if g, err := Adopt(l.Key(), mine); err == nil {
				t.Errorf("adopted %+v", g)
			}
		})
	}
}
