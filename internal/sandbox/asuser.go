package sandbox

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// patience bounds how long the master waits for a file system that doesn't answer.
const patience = 2 * time.Second

// ErrNoAnswer says that a file system has not answered in time.
var ErrNoAnswer = errors.New("the file system doesn't answer")

// mostHung bounds the threads that still wait for a file system after patience.
const mostHung = 16

var hung atomic.Int32

// AsUser calls f on a thread that has u's access to files, or the process's if u is nil. Afterwards the thread has its old
// identity again, or ends. f must make its system calls itself, since other goroutines run with the process's identity.
// After two seconds AsUser returns ErrNoAnswer, while f goes on; drop is called with what f returns too late. If many such
// threads are waiting it returns ErrNoAnswer at once.
//
// Only the identity for file systems is changed (setfsuid(2)): the user could send signals to a
// thread with its own IDs, and a signal that ends a thread ends the master.
func AsUser[T any](u *User, f func() (T, error), drop func(T)) (T, error) {
	type result struct {
		value T
		err   error
	}
	if hung.Load() >= mostHung {
		var none T
		return none, ErrNoAnswer
	}
	done, gone := make(chan result), make(chan struct{})
	go onOtherThread(func() {
		var r result
		self, err := fileSelf()
		if r.err = err; err == nil {
			if r.err = u.setFS(); r.err == nil {
				r.value, r.err = f()
			}
			if u == nil || self.setFS() == nil {
				runtime.UnlockOSThread()
			}
		}
		select {
		case done <- r:
		case <-gone:
			hung.Add(-1)
			if drop != nil {
				drop(r.value)
			}
		}
	})
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case r := <-done:
		return r.value, r.err
	case <-timer.C:
		hung.Add(1)
		close(gone)
		var none T
		return none, ErrNoAnswer
	}
}

// onOtherThread calls f locked to a thread other than the process's first. A change of identity clears the thread's
// signal for its parent's death (PR_SET_PDEATHSIG(2const)), and the first thread has the one that our parent set.
func onOtherThread(f func()) {
	runtime.LockOSThread()
	if unix.Gettid() != unix.Getpid() {
		f()
		return
	}
	placed := make(chan struct{})
	go func() {
		runtime.LockOSThread()
		close(placed)
		f()
	}()
	<-placed // we hold the first thread until f has another one
	runtime.UnlockOSThread()
}

// fileSelf returns the process's own identity for file systems.
func fileSelf() (*User, error) {
	u := &User{UID: uint32(os.Geteuid()), GID: uint32(os.Getegid())}
	groups, err := unix.Getgroups()
	if err != nil {
		return nil, fmt.Errorf("getgroups: %w", err)
	}
	for _, g := range groups {
		u.Groups = append(u.Groups, uint32(g))
	}
	return u, nil
}

// setFS gives the calling thread u's identity for file systems.
func (u *User) setFS() error {
	if u == nil {
		return nil
	}
	groups := append(make([]uint32, 0, len(u.Groups)+1), u.Groups...)
	if _, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(unsafe.Pointer(unsafe.SliceData(groups))), 0); errno != 0 {
		return fmt.Errorf("setgroups: %w%s", errno, becomeHint(errno))
	}
	runtime.KeepAlive(groups)
	for _, id := range []struct {
		name   string
		number uintptr
		id     uint32
	}{{"setfsgid", unix.SYS_SETFSGID, u.GID}, {"setfsuid", unix.SYS_SETFSUID, u.UID}} {
		// The call returns the previous ID, even if it fails.
		_, _, _ = unix.RawSyscall(id.number, uintptr(id.id), 0, 0)
		if now, _, _ := unix.RawSyscall(id.number, ^uintptr(0), 0, 0); uint32(now) != id.id {
			return fmt.Errorf("%s to %d: %w%s", id.name, id.id, unix.EPERM, becomeHint(unix.EPERM))
		}
	}
	return nil
}

// openAs opens directories as u, for rules. It skips those that can't be opened: the worker
// will fail and say so.
func openAs(u *User, paths []string) ([]int, error) {
	fds, err := AsUser(u, func() (fds []int, err error) {
		for _, path := range paths {
			if fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err == nil {
				fds = append(fds, fd)
			}
		}
		return fds, nil
	}, closeAll)
	if err != nil {
		return nil, fmt.Errorf("open the roots: %w", err)
	}
	return fds, nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}

// Access returns why u can't access path in a mode (unix.R_OK, W_OK, X_OK), nil if it can:
// access(2).
func Access(u *User, path string, mode uint32) error {
	_, err := AsUser(u, func() (struct{}, error) {
		return struct{}{}, unix.Faccessat(unix.AT_FDCWD, path, mode, unix.AT_EACCESS)
	}, nil)
	if err != nil && !errors.Is(err, ErrNoAnswer) {
		return &os.PathError{Op: "access", Path: path, Err: err}
	}
	return err
}
