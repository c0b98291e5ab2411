package control

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"reuseportd/internal/rundir/rundirtest"
)

func TestSocketIsPrivateAndStays(t *testing.T) {
	defer unix.Umask(unix.Umask(0))
	dir, stop := start(t, echoCause)
	st, err := os.Stat(SocketPath(dir))
	if err != nil {
		t.Fatal(err)
	}
	if st.Mode().Perm() != 0o600 {
		t.Errorf("the socket's mode is %v", st.Mode())
	}
	stop()
	if _, err := os.Stat(SocketPath(dir)); err != nil {
		t.Errorf("Serve removed the socket: %v", err)
	}
}

func TestNextMasterServesTheSameSocket(t *testing.T) {
	dir := t.TempDir()
	l, err := Listen(rundirtest.Open(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	fd, err := Dup(l)
	if err != nil {
		t.Fatal(err)
	}
	if flags, _ := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); flags&unix.FD_CLOEXEC == 0 {
		t.Error("the duplicate would leak into every child")
	}
	if flags, _ := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); flags&unix.O_NONBLOCK == 0 {
		t.Error("the listener was made blocking")
	}
	stop := serve(t, l, echoCause)
	stop()
	// Between the two masters a client waits in the queue.
	c := dial(t, dir)
	next, err := FromFD(fd)
	if err != nil {
		t.Fatal(err)
	}
	serve(t, next, echoCause)
	if _, err := c.Do(t.Context(), Request{Command: "status"}); err != nil {
		t.Error(err)
	}
}

func TestListenReplacesADeadMastersSocket(t *testing.T) {
	dir, stop := start(t, echoCause)
	stop()
	if _, err := Dial(dir, false); !errors.Is(err, ErrNoMaster) {
		t.Errorf("a dead master's socket gave %v", err)
	}
	l, err := Listen(rundirtest.Open(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	serve(t, l, echoCause)
	if _, err := dial(t, dir).Do(t.Context(), Request{Command: "status"}); err != nil {
		t.Error(err)
	}
}

func TestListenErrors(t *testing.T) {
	busy := t.TempDir()
	if err := os.WriteFile(SocketPath(busy), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	long := filepath.Join(t.TempDir(), strings.Repeat("d", 100))
	if err := os.Mkdir(long, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(rundirtest.Open(t, busy)); err == nil || !strings.Contains(err.Error(), "is in the way and is no socket") {
		t.Errorf("Listen(%s): %v", busy, err)
	}
	l, err := Listen(rundirtest.Open(t, long)) // longer than a socket's address
	if err != nil {
		t.Fatal(err)
	}
	serve(t, l, echoCause)
	if _, err := dial(t, long).Do(t.Context(), Request{Command: "status"}); err != nil {
		t.Error(err)
	}
}

func TestFromFDRefusesOtherDescriptors(t *testing.T) {
	tcp, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	file, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range []int{tcp, file, -1} {
		if l, err := FromFD(fd); err == nil {
			l.Close()
			t.Errorf("descriptor %d was taken", fd)
		}
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil {
			t.Errorf("descriptor %d is still open", fd)
		}
	}
}
