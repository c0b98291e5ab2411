package rundir

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Lock is a held lock. It belongs to the open file description (flock(2)), so it is
// passed on with the descriptor, and lasts until the last duplicate is closed, however
// its process ends.
type Lock struct {
	dir *Dir
	fd  int
}

// ErrLocked is a directory whose lock another instance holds.
var ErrLocked = errors.New("locked")

// mode keeps out everybody but the owner and the group, since whoever can reach the
// directory may try to connect to the control socket. By chgrp an administrator can let
// operators use `status`.
const mode = 0o750

// lockName is the name of the lock's file in the directory.
const lockName = "lock"

// endPatience is how long Lock waits for a holder that has ended already: the kernel closes
// a process's descriptors last, on a busy machine a moment later.
const endPatience = time.Second

// Lock takes the directory's lock. It doesn't wait for a living holder: the error then wraps
// ErrLocked and has the holder's PID.
func (d *Dir) Lock() (*Lock, error) { return d.lockWithin(endPatience) }

func (d *Dir) lockWithin(patience time.Duration) (*Lock, error) {
	for end := time.Now().Add(patience); ; {
		l, err := d.tryLock()
		if held := (*heldError)(nil); errors.As(err, &held) && ending(held.pid) && time.Now().Before(end) {
			time.Sleep(5 * time.Millisecond)
			continue
		}
		if errors.Is(err, ErrLocked) {
			return nil, fmt.Errorf("runtime directory %s is %w", d.path, err)
		}
		if err != nil {
			return nil, fmt.Errorf("runtime directory %s: %w", d.path, err)
		}
		if l != nil {
			return l, nil
		}
	}
}

// tryLock returns nil and no error if the file that it locked has been unlinked by its
// previous holder meanwhile: such a lock keeps nobody out.
func (d *Dir) tryLock() (*Lock, error) {
	fd, err := unix.Openat(d.fd, lockName, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o640)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	if err := plain(fd); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("lock: %w", err)
	}
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer unix.Close(fd)
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, locked(fd)
		}
		return nil, fmt.Errorf("flock: %w", err)
	}
	l := &Lock{dir: d, fd: fd}
	same, err := l.Current()
	if err == nil && same {
		err = l.WritePID()
	}
	if err != nil || !same {
		_ = unix.Close(fd)
		return nil, err
	}
	return l, nil
}

// plain returns an error unless a file that is to be written to is regular and has one
// link. Otherwise somebody may have put it there before the directory was closed to
// others.
func plain(fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("fstat: %w", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Nlink > 1 {
		return errors.New("it is no regular file, or has another name elsewhere; remove it")
	}
	return nil
}

// Renew makes the lock's file again if somebody has removed it, and reports whether it
// had to. The error wraps ErrLocked if another instance was faster; Renew doesn't wait.
func (l *Lock) Renew() (bool, error) {
	same, err := l.Current()
	if err != nil || same {
		return false, err
	}
	fresh, err := l.dir.lockWithin(0)
	if err != nil {
		return false, err
	}
	err = l.Detach()
	l.fd = fresh.fd
	return true, err
}

// heldError has the holder's PID from the lock's file; 0: unknown.
type heldError struct{ pid int }

func (e *heldError) Unwrap() error { return ErrLocked }

func (e *heldError) Error() string {
	return fmt.Sprintf("%v by PID %d (reuseportd): use `reuseportd reload` or `reuseportd stop`, "+
		"or give this instance a --runtime-dir of its own", ErrLocked, e.pid)
}

// locked returns the error that says who holds the lock.
func locked(fd int) error {
	b := make([]byte, 32)
	n, _ := unix.Pread(fd, b, 0)
	pid, _ := strconv.Atoi(strings.TrimSpace(string(b[:max(n, 0)])))
	return &heldError{pid}
}

// ending reports whether a process has ended, or is about to: proc_pid_stat(5), fields 3
// (state) and 9 (flags, of which PF_EXITING is 4).
func ending(pid int) bool {
	if pid <= 0 {
		return false
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH)
	}
	f := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(f) < 7 {
		return false
	}
	flags, _ := strconv.ParseUint(f[6], 10, 64)
	return f[0] == "Z" || f[0] == "X" || flags&4 != 0
}

// AdoptLock returns the lock of a received descriptor. It takes over the descriptor, and
// closes it if it fails. It writes this process's PID into the file.
func (d *Dir) AdoptLock(fd int) (*Lock, error) {
	unix.CloseOnExec(fd)
	l := &Lock{dir: d, fd: fd}
	same, err := l.Current()
	if err == nil && !same {
		err = errors.New("it is not the lock of this directory")
	}
	if err == nil {
		// Succeeds at once if the open file description holds the lock; otherwise it is an
		// error.
		err = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
	}
	if err == nil {
		err = l.WritePID()
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("runtime directory %s: adopt lock: %w", d.path, err)
	}
	return l, nil
}

// Current reports whether the lock's file is still the one at its path.
func (l *Lock) Current() (bool, error) {
	var mine, there unix.Stat_t
	if err := unix.Fstat(l.fd, &mine); err != nil {
		return false, fmt.Errorf("lock: fstat: %w", err)
	}
	err := unix.Fstatat(l.dir.fd, lockName, &there, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("lock: lstat: %w", err)
	}
	return mine.Dev == there.Dev && mine.Ino == there.Ino, nil
}

// WritePID writes this process's PID into the lock's file, for messages only.
func (l *Lock) WritePID() error {
	b := []byte(strconv.Itoa(os.Getpid()) + "\n")
	if _, err := unix.Pwrite(l.fd, b, 0); err != nil {
		return fmt.Errorf("lock: write: %w", err)
	}
	if err := unix.Ftruncate(l.fd, int64(len(b))); err != nil {
		return fmt.Errorf("lock: ftruncate: %w", err)
	}
	return nil
}

// FD returns the close-on-exec descriptor, for passing it to the next master. The lock keeps
// owning it.
func (l *Lock) FD() int { return l.fd }

// Detach closes the descriptor and leaves the lock to its other holders, when the next
// master has adopted it.
func (l *Lock) Detach() error {
	fd := l.fd
	l.fd = -1
	if fd < 0 {
		return nil
	}
	return unix.Close(fd)
}

// Release removes the lock's file and ends the lock. The file is removed while the lock
// is held: whoever has opened it before notices by its inode.
func (l *Lock) Release() error {
	if l.fd < 0 {
		return nil
	}
	err := unix.Unlinkat(l.dir.fd, lockName, 0)
	if errors.Is(err, unix.ENOENT) {
		err = nil
	}
	if err = errors.Join(err, l.Detach()); err != nil {
		return fmt.Errorf("runtime directory %s: release lock: %w", l.dir.path, err)
	}
	return nil
}
