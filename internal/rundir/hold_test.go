package rundir

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A directory that was removed is made anew with the mode and group that it had; one that
// somebody else has made meanwhile is taken as it is, if it is fit.
func TestRemake(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "run")
	d := open(t, path)
	must(t, os.Chmod(path, 0o710))
	if d.Lost() {
		t.Error("it is lost before it was removed")
	}
	must(t, os.RemoveAll(filepath.Dir(path)))
	if !d.Lost() {
		t.Error("it isn't missed")
	}
	fresh, err := d.Remake()
	must(t, err)
	defer fresh.Close()
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o710 || fresh.Lost() || !d.Lost() {
		t.Errorf("mode %v, %v", st, err)
	}
	must(t, os.Remove(path))
	must(t, os.Mkdir(path, 0o700))
	theirs, err := fresh.Remake()
	must(t, err)
	defer theirs.Close()
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, %v", st, err)
	}
	must(t, unix.Chmod(path, 0o777))
	must(t, os.Rename(path, path+"2"))
	must(t, os.Mkdir(path, 0o700))
	must(t, unix.Chmod(path, 0o777))
	if d, err := theirs.Remake(); !IsUnsafe(err) {
		t.Errorf("one that others can write to: %v, %v", d, err)
	}
}

// The lock's file is made anew, unless another instance was faster.
func TestRenew(t *testing.T) {
	dir := t.TempDir()
	l := lock(t, dir)
	if renewed, err := l.Renew(); renewed || err != nil {
		t.Errorf("it was there: %v, %v", renewed, err)
	}
	must(t, os.Remove(filepath.Join(dir, lockName)))
	if renewed, err := l.Renew(); !renewed || err != nil {
		t.Errorf("%v, %v", renewed, err)
	}
	if _, err := open(t, dir).Lock(); !errors.Is(err, ErrLocked) {
		t.Errorf("a second one: %v", err)
	}
	must(t, os.Remove(filepath.Join(dir, lockName)))
	line, stop := instance(t, dir, nil)
	if _, err := l.Renew(); line != "held" || !errors.Is(err, ErrLocked) {
		t.Errorf("%s, and then %v", line, err)
	}
	stop()
	if renewed, err := l.Renew(); renewed && err != nil {
		t.Errorf("%v, %v", renewed, err)
	}
}

// What is to be locked and written to is no file of somebody else's by another name.
func TestPlantedLock(t *testing.T) {
	dir, victim := t.TempDir(), filepath.Join(t.TempDir(), "victim")
	path := filepath.Join(dir, lockName)
	d := open(t, dir)
	for name, plant := range map[string]func() error{
		"link":      func() error { return os.Symlink(victim, path) },
		"hard link": func() error { return os.Link(victim, path) },
		"FIFO":      func() error { return unix.Mkfifo(path, 0o600) },
	} {
		must(t, os.WriteFile(victim, []byte("mine"), 0o600))
		must(t, plant())
		if _, err := d.Lock(); err == nil {
			t.Errorf("a %s was locked", name)
		}
		if text, err := os.ReadFile(victim); err != nil || string(text) != "mine" {
			t.Errorf("by a %s the victim has become %q, %v", name, text, err)
		}
		must(t, os.Remove(path))
	}
}

func TestHoldAndTouch(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir)
	must(t, d.Hold(0))
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(fd)
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != unix.EWOULDBLOCK {
		t.Errorf("a cleaner gets it: %v", err)
	}
	must(t, unix.Flock(fd, unix.LOCK_SH|unix.LOCK_NB))
	if err := open(t, dir).Hold(0); err != nil {
		t.Errorf("a second master: %v", err)
	}
	old := time.Now().Add(-1000 * time.Hour)
	file := filepath.Join(dir, "file")
	must(t, os.WriteFile(file, nil, 0o600))
	must(t, os.Chtimes(file, old, old))
	must(t, os.Symlink(file, filepath.Join(dir, "link")))
	if d.Inode("file") == 0 || d.Inode("none") != 0 || d.Inode("../x") != 0 {
		t.Error("inodes are wrong")
	}
	must(t, d.Touch())
	if st, err := os.Stat(file); err != nil || time.Since(st.ModTime()) > time.Hour {
		t.Errorf("%v, %v", st.ModTime(), err)
	}
}
