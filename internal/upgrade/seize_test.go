package upgrade

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"reuseportd/internal/record"
)

// TestSeizesSocketsOnly: of a worker's other descriptors the master never has a duplicate, which to close could wait for a file
// system that somebody made up. That it has closed one shows by its record locks, which go with any descriptor of the file.
func TestSeizesSocketsOnly(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	again, err := os.Open(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	child := exec.Command("sleep", "1000")
	child.Stdin = f
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer child.Wait()
	defer child.Process.Kill()
	lock := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart}
	if err := unix.FcntlFlock(f.Fd(), unix.F_SETLK, &lock); err != nil {
		t.Fatal(err)
	}
	pidfd, err := unix.PidfdOpen(child.Process.Pid, 0)
	if err != nil {
		t.Skipf("pidfd_open: %v", err)
	}
	defer unix.Close(pidfd)
	if fd, err := unix.PidfdGetfd(pidfd, 1, 0); err != nil {
		t.Skipf("pidfd_getfd: %v", err)
	} else {
		unix.Close(fd)
	}
	rec := &record.Record{Groups: []record.Group{{Key: "web", Cookies: []uint64{1}}}}
	o := &orphan{gen: new(record.Generation), rec: &record.Worker{PID: child.Process.Pid}, pidfd: pidfd}
	if n, err := o.seize(rec); n != 0 || err != nil {
		t.Fatalf("%d shards, %v", n, err)
	}
	probe := unix.Flock_t{Type: unix.F_RDLCK, Whence: io.SeekStart}
	if err := unix.FcntlFlock(again.Fd(), unix.F_OFD_GETLK, &probe); err != nil || probe.Type == unix.F_UNLCK {
		t.Errorf("the lock is gone, so a duplicate of the file was closed; %v", err)
	}
}
