package record

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// StartTime returns when a process began, in clock ticks since boot: field 22 of
// /proc/PID/stat, proc(5). Together with the PID it identifies one process.
func StartTime(pid int) (uint64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The command, field 2, is in brackets and may hold anything.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	const first, start = 3, 22
	if len(fields) <= start-first {
		return 0, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields)+first-1)
	}
	return strconv.ParseUint(fields[start-first], 10, 64)
}

// RealUID returns the real user ID of a process. The owner of its files in /proc doesn't show
// that: those of a process that isn't dumpable are root's.
func RealUID(pid int) (uint32, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if ids, ok := strings.CutPrefix(line, "Uid:"); ok {
			if fields := strings.Fields(ids); len(fields) > 0 {
				uid, err := strconv.ParseUint(fields[0], 10, 32)
				return uint32(uid), err
			}
		}
	}
	return 0, fmt.Errorf("/proc/%d/status names no user", pid)
}

// errOther says that the PID is another process's: the one that is meant has ended.
var errOther = errors.New("it has ended")

// Find returns a pidfd of the process that had this PID and start time; an error if it has
// ended. From then on Ended shows whether the PID may have been reused.
func Find(pid int, start uint64) (int, error) {
	if pid <= 0 || start == 0 {
		return -1, errOther
	}
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return -1, fmt.Errorf("pidfd_open: %w", err)
	}
	// Read while the pidfd is open and its process alive, so the start time is that
	// process's.
	got, err := StartTime(pid)
	if err == nil && (got != start || Ended(pidfd, 0)) {
		err = errOther
	}
	if err != nil {
		_ = unix.Close(pidfd)
		return -1, err
	}
	return pidfd, nil
}

// Ended reports whether a process has ended, reaped or not; it waits at most within.
func Ended(pidfd int, within time.Duration) bool {
	deadline := time.Now().Add(within)
	fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	for {
		left := max(0, time.Until(deadline))
		n, err := unix.Poll(fds, int((left+time.Millisecond-1)/time.Millisecond))
		if n > 0 || err != nil && !errors.Is(err, unix.EINTR) {
			return n > 0
		}
		if left == 0 && err == nil {
			return false
		}
	}
}

// Peer is the process at the other end of a Unix socket: for a connection to a listening
// socket, the process that called listen(2) last.
type Peer struct {
	PIDFD int // -1 when it has ended; the caller closes it
	PID   int // 0 when it is of another PID namespace
	UID   uint32
}

// PeerOf asks the kernel who is at the other end. If the kernel can't give a pidfd
// (SO_PEERPIDFD, Linux 6.5) it opens one by the PID, which may have been reused
// meanwhile: compare start times, or at least users.
func PeerOf(fd int) (Peer, error) {
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return Peer{PIDFD: -1}, fmt.Errorf("getsockopt SO_PEERCRED: %w", err)
	}
	p := Peer{PIDFD: -1, PID: int(cred.Pid), UID: cred.Uid}
	pidfd, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PEERPIDFD)
	switch {
	case err == nil:
		unix.CloseOnExec(pidfd)
		p.PIDFD = pidfd
	case errors.Is(err, unix.ENOPROTOOPT) && p.PID > 0:
		if pidfd, err := unix.PidfdOpen(p.PID, 0); err == nil {
			p.PIDFD = pidfd
		}
	}
	if p.PIDFD >= 0 && Ended(p.PIDFD, 0) {
		_ = unix.Close(p.PIDFD)
		p.PIDFD = -1
	}
	return p, nil
}
