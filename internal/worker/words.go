package worker

import (
	"bytes"

	"golang.org/x/sys/unix"
)

// StderrFD is the descriptor at which a worker finds the service's standard error. At first its own standard error is memory
// that the master reads. So what the Go runtime writes when it ends the process, for example because the kernel refuses a
// thread, gets into the receipt of the change that fails.
const StderrFD = ControlFD + 1

// keepStderr replaces the worker's own standard error by the service's, and then copies there what had been written
// before, so that no line is lost between. It never waits for a reader: what a full pipe doesn't take is dropped. It
// reports whether the worker's standard error has been replaced.
func keepStderr() bool {
	early, err := unix.FcntlInt(2, unix.F_DUPFD_CLOEXEC, StderrFD+1)
	if err != nil || unix.Dup3(StderrFD, 2, 0) != nil {
		return false
	}
	defer unix.Close(early)
	_ = unix.Close(StderrFD)
	buf := make([]byte, 4096) // a writable pipe has room for at least this much: pipe(7)
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
