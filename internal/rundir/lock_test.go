package rundir

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMain is another instance, when it is run as that: it tells on standard
// output how taking the lock ended, and keeps it until standard input ends.
func TestMain(m *testing.M) {
	dir := os.Getenv("RUNDIR_TEST_DIR")
	if dir == "" {
		os.Exit(m.Run())
	}
	d, err := Open(dir, Options{Make: true})
	switch {
	case err != nil:
	case os.Getenv("RUNDIR_TEST_ADOPT") != "":
		_, err = d.AdoptLock(3)
	default:
		_, err = d.Lock()
	}
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("held")
	_, _ = os.Stdin.Read(make([]byte, 1))
}

// instance starts another process on dir and returns its first line. The
// process ends when stop is called.
func instance(t *testing.T, dir string, adopt *Lock) (line string, stop func()) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "RUNDIR_TEST_DIR="+dir)
	if adopt != nil {
		fd, err := unix.FcntlInt(uintptr(adopt.FD()), unix.F_DUPFD_CLOEXEC, 3)
		must(t, err)
		file := os.NewFile(uintptr(fd), "lock")
		defer file.Close()
		cmd.ExtraFiles = []*os.File{file}
		cmd.Env = append(cmd.Env, "RUNDIR_TEST_ADOPT=1")
	}
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	stop = sync.OnceFunc(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	t.Cleanup(stop)
	b := make([]byte, 1000)
	n, err := out.Read(b)
	must(t, err)
	return strings.TrimSpace(string(b[:n])), stop
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func lock(t *testing.T, dir string) *Lock {
	t.Helper()
	l, err := open(t, dir).Lock()
	must(t, err)
	t.Cleanup(func() { must(t, l.Release()) })
	return l
}

func open(t *testing.T, dir string) *Dir {
	t.Helper()
	d, err := Open(dir, Options{Make: true})
	must(t, err)
	t.Cleanup(func() { must(t, d.Close()) })
	return d
}

func TestSecondInstanceIsKeptOut(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run", "reuseportd")
	l := lock(t, dir)
	st, err := os.Stat(dir)
	must(t, err)
	if st.Mode().Perm()&0o007 != 0 {
		t.Errorf("permissions %s", st.Mode().Perm())
	}
	want := fmt.Sprintf("runtime directory %s is locked by PID %d (reuseportd): ", dir, os.Getpid())
	if line, _ := instance(t, dir, nil); !strings.HasPrefix(line, want) {
		t.Errorf("got %q, want %q…", line, want)
	}
	if _, err := open(t, dir).Lock(); !errors.Is(err, ErrLocked) {
		t.Errorf("got %v", err)
	}
	must(t, l.Release())
	must(t, l.Release())
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
	line, stop := instance(t, dir, nil)
	if line != "held" {
		t.Errorf("after release: %q", line)
	}
	stop() // without releasing: death is enough
	lock(t, dir)
}

// TestLockIsPassedOn is an upgrade: the next master adopts the lock while the
// old one has it, and keeps it when the old one is gone.
func TestLockIsPassedOn(t *testing.T) {
	dir := t.TempDir()
	l := lock(t, dir)
	line, stop := instance(t, dir, l)
	if line != "held" {
		t.Fatal(line)
	}
	must(t, l.Detach())
	_, err := open(t, dir).Lock()
	if !errors.Is(err, ErrLocked) || strings.Contains(err.Error(), fmt.Sprintf("PID %d ", os.Getpid())) {
		t.Errorf("got %v, want it locked by the other", err)
	}
	stop()
	lock(t, dir)
}

func TestAdoptLockRefusesAnotherFile(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	lock(t, dir)
	foreign := lock(t, other)
	fd, err := unix.FcntlInt(uintptr(foreign.FD()), unix.F_DUPFD_CLOEXEC, 3)
	must(t, err)
	if _, err := open(t, dir).AdoptLock(fd); err == nil {
		t.Error("adopted the lock of another directory")
	}
	// The right file, but a description that doesn't hold the lock.
	fd, err = unix.Open(filepath.Join(dir, lockName), unix.O_RDWR|unix.O_CLOEXEC, 0)
	must(t, err)
	if _, err := open(t, dir).AdoptLock(fd); !errors.Is(err, unix.EWOULDBLOCK) {
		t.Errorf("got %v", err)
	}
}

// TestNeverTwoHolders takes and releases one lock from many goroutines, each
// of which opens the file anew, and so races with its being unlinked.
func TestNeverTwoHolders(t *testing.T) {
	d := open(t, t.TempDir())
	var wg sync.WaitGroup
	var held sync.Mutex
	for range 4 {
		wg.Go(func() {
			for range 200 {
				l, err := d.Lock()
				if errors.Is(err, ErrLocked) {
					continue
				}
				if err != nil || !held.TryLock() {
					t.Errorf("two holders, or %v", err)
					return
				}
				runtime.Gosched()
				held.Unlock()
				if err := l.Release(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}
