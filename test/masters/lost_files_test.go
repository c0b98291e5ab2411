package masters

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"reuseportd/internal/control"
	"reuseportd/test/harness"
	"reuseportd/test/kit"
	"reuseportd/test/meter"
)

// A second master is kept out, and takes no worker from the first one, whatever of the
// runtime directory was removed: the lock, and what else would name a living master.
func TestLostLockFile(t *testing.T) {
	c := harness.Default(t)
	s := harness.Start(t, c)
	pid := s.PID()
	workers := s.Workers()
	kit.LosingNothing(t, kit.Clients(c), func(m *meter.Meter) {
		for _, test := range []struct{ want, files string }{
			{"which has lost its lock file", "lock"},
			{"which has lost its lock file", "lock control.sock reuseportd.pid"},
			{"listens there and is alive", "lock record.json"},
			{"there is no record of an earlier master (record.json)", "lock record.json control.sock"},
		} {
			m.Mark("without %s", test.files)
			kit.StopMaster(s, pid) // else it might be faster, and have made the lock anew
			for _, f := range strings.Fields(test.files) {
				kit.Must(t, os.Remove(filepath.Join(s.RuntimeDir, f)))
			}
			second := s.RunMaster()
			if code := second.WaitExit(); code != 1 || !strings.Contains(second.Log(), test.want) {
				t.Errorf("without %s a second master ended with status %d: %s", test.files, code, second.Log())
			}
			kit.Must(t, syscall.Kill(pid, syscall.SIGCONT))
			s.Wait("the lock to be the first one's", func() bool {
				text, err := os.ReadFile(filepath.Join(s.RuntimeDir, "lock"))
				return err == nil && strings.TrimSpace(string(text)) == fmt.Sprint(pid) && s.PIDFile() == pid
			})
			if got := s.Workers(); !slices.Equal(got, workers) {
				t.Errorf("without %s the workers are %d, they were %d", test.files, got, workers)
			}
		}
	})
	st := s.WaitStatus("it to be said", func(st *control.Status) bool { return strings.Contains(st.RuntimeDir.Remade, "lock") })
	if st.PID != pid || st.RuntimeDir.Problem != "" {
		t.Errorf("master %d, %+v", st.PID, st.RuntimeDir)
	}
	s.Upgrade()
	s.Stop()
}

// The runtime directory is deleted: everything in it is made anew, as it was, and what
// comes after goes by that.
func TestDeletedRuntimeDirectory(t *testing.T) {
	c, mc := everyone(t)
	s := harness.Start(t, c)
	kit.Must(t, os.Chmod(s.RuntimeDir, 0o711))
	kit.LosingNothing(t, mc, func(m *meter.Meter) {
		remade := func() {
			m.Mark("the runtime directory is deleted")
			names, err := os.ReadDir(s.RuntimeDir)
			kit.Must(t, err)
			for err = os.RemoveAll(s.RuntimeDir); errors.Is(err, syscall.ENOTEMPTY); { // the master is as fast
				err = os.RemoveAll(s.RuntimeDir)
			}
			kit.Must(t, err)
			s.Wait("everything to be made anew", func() bool {
				return !slices.ContainsFunc(names, func(e os.DirEntry) bool {
					_, err := os.Lstat(filepath.Join(s.RuntimeDir, e.Name()))
					return err != nil
				})
			})
			if st, err := os.Stat(s.RuntimeDir); err != nil || st.Mode().Perm() != 0o711 {
				t.Errorf("mode %v, %v", st.Mode(), err)
			}
			s.WaitStatus("it to be said", func(st *control.Status) bool {
				return st.RuntimeDir.Problem == "" && strings.Contains(st.RuntimeDir.Remade, control.SocketName)
			})
		}
		remade()
		s.Reload()
		s.WaitServing(2)
		remade()
		m.Mark("upgrade")
		s.Upgrade()
		s.WaitServing(3)
		remade()
		m.Mark("kill -9 of the master")
		s.Kill9Master()
		kit.Adopts(t, s)
	})
	s.WaitLog("somebody has removed what this service needs in its runtime directory")
	s.Stop()
}

// Where the directory can't be made anew, a dead worker is replaced all the same.
func TestRuntimeDirectoryThatCantBeMade(t *testing.T) {
	c := harness.Default(t).WithWorkers(1)
	s := harness.Start(t, c)
	workers := s.Workers()
	aside := s.RuntimeDir + ".gone" // at once, or the master would be as fast
	kit.Must(t, os.Rename(s.RuntimeDir, aside))
	kit.Must(t, os.WriteFile(s.RuntimeDir, nil, 0o600))
	kit.Must(t, os.RemoveAll(aside))
	s.KillWorkers(workers...)
	s.WaitLog("the next one can't take this worker over")
	var next []int
	s.Wait("another worker", func() bool {
		next = s.AllWorkers()
		return len(next) == 1 && next[0] != workers[0]
	})
	conn := kit.Dial(t, c.Address("echo"))
	conn.Echo("hello")
	kit.Must(t, conn.Close())
	kit.Must(t, os.Remove(s.RuntimeDir))
	if got := s.Workers(); !slices.Equal(got, next) { // asked at the new socket
		t.Errorf("workers %d, want %d", got, next)
	}
	s.Kill9Master()
	kit.Adopts(t, s) // the worker got its rescue
	s.Stop()
}

// systemd-tmpfiles leaves alone a directory whose flock(2) another process has: the
// master's, and when that is dead its workers'.
func TestDirectoryIsHeld(t *testing.T) {
	s := harness.Start(t, harness.Default(t))
	clean := func() error {
		fd, err := unix.Open(s.RuntimeDir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		kit.Must(t, err)
		defer unix.Close(fd)
		return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
	}
	held := func(when string) {
		if err := clean(); !errors.Is(err, syscall.EWOULDBLOCK) {
			t.Errorf("%s a cleaner gets the lock: %v", when, err)
		}
	}
	held("while it serves")
	s.Kill9Master()
	held("without a master")
	m := s.RunMaster()
	s.WaitAlone(m.PID())
	held("after adoption")
	s.Upgrade()
	held("after an upgrade")
	s.Stop()
	// Who has it alone, a cleaner or somebody else who can read the directory, holds nobody up.
	fd, err := unix.Open(s.RuntimeDir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	kit.Must(t, err)
	defer unix.Close(fd)
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		t.Errorf("after the end: %v", err)
	}
	m = s.RunMaster()
	s.WaitAlone(m.PID())
	if !strings.Contains(m.Log(), "cleaners of old files are not kept away") {
		t.Errorf("it says %s", m.Log())
	}
	kit.Must(t, unix.Flock(fd, unix.LOCK_UN))
	s.Wait("the directory to be held", func() bool { return clean() != nil })
	s.Stop()
}

// The directory that a service was started in goes with its deployment: nothing needs it later.
func TestDeletedWorkingDirectory(t *testing.T) {
	c := harness.Default(t)
	s := harness.Prepare(t, c)
	release := harness.Dir(t)
	s.Run(func(_ *harness.Server, cmd *exec.Cmd) { cmd.Dir = release })
	before := s.WaitServing(1)
	kit.Must(t, os.Remove(release))
	conn := kit.Dial(t, c.Address("echo"))
	conn.Echo("before")
	s.Upgrade()
	s.Upgrade()
	conn.Echo("after")
	if st := s.Status(); st.PID == before.PID {
		t.Error("the master is the same")
	}
	s.Kill9Master()
	m := s.RunMaster()
	s.WaitMaster(m.PID())
	conn.Echo("at last")
	conn.Close()
	s.Stop()
}

// A master that comes to the workers of a killed one is of use though the PID file can't be written, as on a
// full disk: it replaces workers, can be asked, and writes the file when that goes again.
func TestUnwritablePIDFile(t *testing.T) {
	s := harness.Start(t, harness.Default(t))
	s.Kill9Master()
	full := filepath.Join(s.RuntimeDir, "reuseportd.pid.new")
	kit.Must(t, os.MkdirAll(filepath.Join(full, "in the way"), 0o755))
	m := s.RunMaster()
	s.WaitMaster(m.PID())
	s.WaitLog("the PID file can't be written")
	s.KillWorkers(s.Workers()[0])
	s.WaitServing(2)
	s.WaitStatus("it to be said", func(st *control.Status) bool { return st.RuntimeDir.Problem != "" })
	if pid := s.PIDFile(); pid != 0 {
		t.Errorf("the PID file names %d", pid)
	}
	kit.Must(t, os.RemoveAll(full))
	s.Wait("the PID file to be there", func() bool { return s.PIDFile() == m.PID() })
	s.Upgrade()
	s.Stop()
}
