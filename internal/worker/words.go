package worker

import "golang.org/x/sys/unix"

// StderrFD is the descriptor at which a worker finds the service's standard error. Its own is memory of
// the master's at first, so that what the Go runtime says when it ends the process, as where the kernel gives it no thread, is
// in the receipt of the change that fails for it.
const StderrFD = ControlFD + 1

// keepStderr puts the service's standard error in the place of the worker's own, and passes on what has been
// written to that. It waits for no reader: what a full pipe doesn't take is left out.
func keepStderr() {
	early := make([]byte, 4096) // of a writable pipe at least so much is free: pipe(7)
	n, err := unix.Pread(2, early, 0)
	for n > 0 && early[n-1] == 0 {
		n--
	}
	to := []unix.PollFd{{Fd: StderrFD, Events: unix.POLLOUT}}
	if ready, _ := unix.Ppoll(to, &unix.Timespec{}, nil); err == nil && n > 0 && ready == 1 {
		_, _ = unix.Write(StderrFD, early[:n])
	}
	if unix.Dup3(StderrFD, 2, 0) == nil {
		_ = unix.Close(StderrFD)
	}
}
