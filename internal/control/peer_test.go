package control

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestAllow(t *testing.T) {
	for _, test := range []struct {
		uid, own uint32
		want     string
	}{
		{0, 0, ""},
		{0, 1000, ""},
		{1000, 1000, ""},
		{1000, 0, "answers only root"},
		{1001, 1000, "answers only root and uid 1000"},
	} {
		err := allow(test.uid, test.own)
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("allow(%d, %d) = %v, want %q", test.uid, test.own, err, test.want)
		}
	}
}

// asOther runs f on a thread that has the user id of nobody. The thread ends
// with it.
func asOther(t *testing.T, f func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can become somebody else")
	}
	done := make(chan error)
	go func() {
		// No UnlockOSThread: the runtime throws the thread away.
		lockThread()
		_, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, 65534, 65534, 65534)
		if errno != 0 {
			done <- errno
			return
		}
		f()
		done <- nil
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestOtherUsersAreRefused(t *testing.T) {
	dir, _ := start(t, func(context.Context, Request) Response {
		t.Error("a request of another user was handled")
		return Response{}
	})
	// The socket's mode keeps them out …
	chmodAll(t, dir, 0o755)
	asOther(t, func() {
		_, err := Dial(dir, false)
		if err == nil || !strings.Contains(err.Error(), "permission denied; only root may ask this master") {
			t.Errorf("got %v", err)
		}
	})
	// … and where somebody opened it, the peer's credentials do.
	if err := os.Chmod(SocketPath(dir), 0o666); err != nil {
		t.Fatal(err)
	}
	asOther(t, func() {
		c, err := Dial(dir, false)
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		_, err = c.Do(context.Background(), Request{Command: "status"})
		var refused *RefusedError
		if !errors.As(err, &refused) || !strings.Contains(refused.Text, "uid 65534 asks") {
			t.Errorf("got %v", err)
		}
	})
}

// chmodAll makes dir and what is above it reachable, up to the temporary
// directory.
func chmodAll(t *testing.T, dir string, mode os.FileMode) {
	t.Helper()
	for ; dir != filepath.Clean(os.TempDir()) && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
	}
}
