package upgrade

import (
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"reuseportd/internal/record"
)

// watch waits for the end of a process by its pidfd, in the runtime's poller and without a
// thread.
type watch struct {
	file *os.File // a duplicate of the pidfd; nil if there is none
	done sync.WaitGroup

	mu   sync.Mutex
	over bool // guarded by mu: the process has ended
	quit bool // guarded by mu: nobody wants to know any more
}

// watchEnd calls f, once and from a goroutine of its own, when the process ends, unless stop
// is called before.
func watchEnd(pidfd int, f func()) *watch {
	w := new(watch)
	raw, err := w.open(pidfd)
	if err != nil {
		return w // the channel's end will tell
	}
	w.done.Go(func() {
		if raw.Read(func(fd uintptr) bool { return record.Ended(int(fd)) }) != nil {
			return
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.over = !w.quit; w.over {
			f()
		}
	})
	return w
}

// open gives the poller a duplicate: closing it is how the wait is given up.
func (w *watch) open(pidfd int) (syscall.RawConn, error) {
	fd, err := unix.FcntlInt(uintptr(pidfd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(fd, true); err != nil { // or the poller doesn't take it
		_ = unix.Close(fd)
		return nil, err
	}
	w.file = os.NewFile(uintptr(fd), "pidfd")
	return w.file.SyscallConn()
}

// ended reports whether f was called.
func (w *watch) ended() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.over
}

// stop gives up the wait. f is not called afterwards.
func (w *watch) stop() {
	if w == nil {
		return
	}
	w.mu.Lock()
	w.quit = true
	w.mu.Unlock()
	if w.file != nil {
		_ = w.file.Close()
	}
	w.done.Wait()
}
