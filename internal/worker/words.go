package worker

import (
	"bytes"

	"golang.org/x/sys/unix"
)

// StderrFD is the descriptor at which a worker finds the service's standard error. Its own is memory of
// the master's at first, so that what the Go runtime says when it ends the process, as where the kernel gives it no thread, is
// in the receipt of the change that fails for it.
const StderrFD = ControlFD + 1

// keepStderr puts the service's standard error in the place of the worker's own, and then passes on what had been
// written to that, so that no line falls between. It waits for no reader: what a full pipe doesn't take is left out. It
// reports whether it has.
func keepStderr() bool {
	early, err := unix.FcntlInt(2, unix.F_DUPFD_CLOEXEC, StderrFD+1)
	if err != nil || unix.Dup3(StderrFD, 2, 0) != nil {
		return false
	}
	defer unix.Close(early)
	_ = unix.Close(StderrFD)
	buf := make([]byte, 4096) // of a writable pipe at least so much is free: pipe(7)
	for at := int64(0); ; {
		n, err := unix.Pread(early, buf, at)
		text, _, _ := bytes.Cut(buf[:max(n, 0)], []byte{0})
		to := []unix.PollFd{{Fd: 2, Events: unix.POLLOUT}}
		if ready, _ := unix.Ppoll(to, &unix.Timespec{}, nil); err != nil || len(text) == 0 || ready != 1 {
			return true
		}
		_, _ = unix.Write(2, text)
		at += int64(len(text))
	}
}
