package record

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Process is a process that can't come to mean another one: proc_pid_stat(5).
type Process struct {
	PID     int    `json:"pid"`
	Started uint64 `json:"started"` // field 22, in clock ticks since boot
}

// ProcessOf returns the process with a PID. It must be known to live, or to be waited for
// by nobody else: a PID may be another process's as soon as it was.
func ProcessOf(pid int) (Process, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return Process{}, fmt.Errorf("start time of process %d: %w", pid, err)
	}
	started, err := startTime(stat)
	if err != nil {
		return Process{}, fmt.Errorf("start time of process %d: %w", pid, err)
	}
	return Process{pid, started}, nil
}

// startTime returns field 22. The second field, the name, may hold anything; it ends at
// the last parenthesis.
func startTime(stat []byte) (uint64, error) {
	i := bytes.LastIndexByte(stat, ')')
	if i < 0 {
		return 0, errors.New("/proc/PID/stat has no name")
	}
	fields := strings.Fields(string(stat[i+1:]))
	const at = 22 - 3 // the third field is the first behind the name
	if len(fields) <= at {
		return 0, fmt.Errorf("/proc/PID/stat has %d fields", len(fields)+2)
	}
	return strconv.ParseUint(fields[at], 10, 64)
}

// Open returns a pidfd of the process, if it is still there: pidfd_open(2).
func (p Process) Open() (int, error) {
	fd, err := unix.PidfdOpen(p.PID, 0)
	if err != nil {
		return -1, fmt.Errorf("process %d: %w", p.PID, err)
	}
	now, err := ProcessOf(p.PID)
	if err == nil && now != p {
		err = fmt.Errorf("process %d is another one by now", p.PID)
	}
	if err == nil && Ended(fd) { // else the PID might be another's since
		err = unix.ESRCH
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// Ended reports whether the process of a pidfd has ended, which a zombie has.
func Ended(pidfd int) bool {
	fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	n, _ := unix.Poll(fds, 0)
	return n > 0
}

// Peer is who listens at the other end of a connected Unix socket.
type Peer struct {
	Process
	UID   uint32
	PIDFD int // the caller's to close; -1 if its process has ended
}

// PeerOf returns the process that has called listen(2), as the kernel names it: SO_PEERCRED and,
// since Linux 6.5, SO_PEERPIDFD, unix(7).
func PeerOf(fd int) (Peer, error) {
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return Peer{}, fmt.Errorf("SO_PEERCRED: %w", err)
	}
	p := Peer{Process: Process{PID: int(cred.Pid)}, UID: cred.Uid, PIDFD: -1}
	pidfd, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PEERPIDFD)
	if errors.Is(err, unix.ENOPROTOOPT) {
		pidfd, err = unix.PidfdOpen(p.PID, 0)
	}
	if err != nil {
		return p, nil // it has ended
	}
	unix.CloseOnExec(pidfd)
	now, err := ProcessOf(p.PID)
	if err != nil || Ended(pidfd) { // what was read may be another process's
		_ = unix.Close(pidfd)
		return p, nil
	}
	p.Process, p.PIDFD = now, pidfd
	return p, nil
}

// Inode is memory, or a file.
type Inode struct {
	Dev uint64 `json:"dev"`
	Ino uint64 `json:"ino"`
}

// InodeOf returns what a descriptor is of: fstat(2).
func InodeOf(fd int) (Inode, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return Inode{}, fmt.Errorf("fstat: %w", err)
	}
	return Inode{st.Dev, st.Ino}, nil
}

// CookieOf returns the number that no other socket since the boot has: SO_COOKIE, socket(7).
func CookieOf(fd int) (uint64, error) {
	c, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE)
	if err != nil {
		return 0, fmt.Errorf("SO_COOKIE: %w", err)
	}
	return c, nil
}
