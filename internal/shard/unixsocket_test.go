package shard

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestUnixSocket(t *testing.T) {
	l := unixListener(t)
	g := newGroup(t, l)
	must(t, g.Bind(4))
	if !refusedAtOnce(t, g) {
		t.Error("connected before listen")
	}
	expectMode(t, l.Address, 0o660)
	must(t, g.Listen())
	must(t, g.check())
	if queueLen(t, g, 0) != 0 {
		t.Error("something waits in an empty queue")
	}
	dial(t, g)
	if queueLen(t, g, 0) != 1 {
		t.Error("a connection doesn't show")
	}
	accept(t, g, 0)
	l.Mode = 0o600
	must(t, g.Update(l))
	expectMode(t, l.Address, 0o600)
	must(t, g.Remove())
	if _, err := os.Lstat(l.Address); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the path is still there: %v", err)
	}
}

func expectMode(t *testing.T, path string, want fs.FileMode) {
	t.Helper()
	st, err := os.Lstat(path)
	must(t, err)
	if st.Mode().Perm() != want {
		t.Errorf("permissions %s, want %s", st.Mode().Perm(), want)
	}
}

func TestStaleUnixSocketIsReplaced(t *testing.T) {
	l := unixListener(t)
	dead, err := NewGroup(l)
	must(t, err)
	must(t, dead.Bind(1))
	must(t, dead.Listen())
	must(t, dead.Detach()) // as a killed process would
	g := listening(t, l, 1)
	dial(t, g)
	accept(t, g, 0)
}

func TestLiveUnixSocketIsLeftAlone(t *testing.T) {
	l := unixListener(t)
	live := listening(t, l, 1)
	g := newGroup(t, l)
	err := g.Bind(1)
	if !errors.Is(err, unix.EADDRINUSE) || !errors.Is(err, ErrNotStale) ||
		!strings.HasPrefix(err.Error(), "bind local "+l.Address+": ") {
		t.Errorf("got %v", err)
	}
	accept(t, live, 0) // the one that asked
	dial(t, live)
	accept(t, live, 0)
}

func TestFileInTheWayIsLeftAlone(t *testing.T) {
	l := unixListener(t)
	must(t, os.WriteFile(l.Address, []byte("precious"), 0o600))
	g := newGroup(t, l)
	if err := g.Bind(1); !errors.Is(err, ErrNotStale) {
		t.Errorf("got %v", err)
	}
	if b, err := os.ReadFile(l.Address); err != nil || string(b) != "precious" {
		t.Errorf("the file has %q, %v", b, err)
	}
}

func TestRemoveLeavesWhatCameLater(t *testing.T) {
	l := unixListener(t)
	g := listening(t, l, 1)
	must(t, os.Remove(l.Address))
	later := listening(t, l, 1)
	must(t, g.Remove())
	dial(t, later)
	accept(t, later, 0)
}

func TestRefusedUnixSocketServesItsQueue(t *testing.T) {
	l := unixListener(t)
	g := listening(t, l, 1)
	dial(t, g)
	must(t, g.Refuse())
	must(t, g.Refuse())
	if _, err := os.Lstat(l.Address); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the path is still there: %v", err)
	}
	accept(t, g, 0)
	if err := g.Unrefuse(); !errors.Is(err, ErrGone) {
		t.Errorf("got %v", err)
	}
}
