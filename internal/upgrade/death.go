package upgrade

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/record"
)

// deathWatch waits for a process's end without a thread of its own: a pidfd can be polled.
type deathWatch struct {
	file *os.File
	raw  syscall.RawConn
	once sync.Once
}

// watchDeath watches a duplicate of a pidfd.
func watchDeath(pidfd int) (*deathWatch, error) {
	fd, err := unix.FcntlInt(uintptr(pidfd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, fmt.Errorf("watch a process: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil { // so that os.NewFile polls it
		_ = unix.Close(fd)
		return nil, fmt.Errorf("watch a process: %w", err)
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	raw, err := f.SyscallConn()
	if err == nil {
		err = f.SetReadDeadline(time.Time{}) // an error says that it can't be polled
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("watch a process: %w", err)
	}
	return &deathWatch{file: f, raw: raw}, nil
}

// wait returns true when the process is dead, false after stop.
func (d *deathWatch) wait() bool {
	err := d.raw.Read(func(fd uintptr) bool { return record.Ended(int(fd), 0) })
	return err == nil
}

// dead reports whether the process is, or will be within a time.
func (d *deathWatch) dead(within time.Duration) bool {
	ended := false
	if err := d.raw.Control(func(fd uintptr) { ended = record.Ended(int(fd), within) }); errors.Is(err, os.ErrClosed) {
		return false
	}
	return ended
}

// stop ends every wait.
func (d *deathWatch) stop() { d.once.Do(func() { _ = d.file.Close() }) }
