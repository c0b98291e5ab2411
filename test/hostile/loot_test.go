package hostile

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// loot is what a hostile worker has: duplicates of a worker's descriptors, -1 where there are
// none. They are taken as root, since nobody else may; what is done with them needs no privilege.
type loot struct {
	pid, slot                      int
	generation                     uint64
	channel, rescue, ledger, board int
	shards                         map[string]int // by address
}

// rob takes a worker's descriptors.
func rob(pid, slot int, generation uint64) (*loot, error) {
	l := &loot{pid: pid, slot: slot, generation: generation, channel: -1, rescue: -1, ledger: -1, board: -1, shards: make(map[string]int)}
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(pidfd)
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		var number int
		_, _ = fmt.Sscan(e.Name(), &number)
		name, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", pid, number))
		if !strings.HasPrefix(name, "socket:") && !strings.Contains(name, "memfd:") {
			continue
		}
		if fd, err := unix.PidfdGetfd(pidfd, number, 0); err == nil {
			l.keep(name, number, fd)
		}
	}
	if min(l.channel, l.rescue, l.ledger, l.board) < 0 {
		l.close()
		return nil, fmt.Errorf("worker %d has not all that a worker has: %+v", pid, l)
	}
	return l, nil
}

func (l *loot) keep(name string, number, fd int) {
	domain, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	listens, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	typ, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	switch {
	case strings.Contains(name, "reuseportd-stats"):
		l.ledger = fd
	case strings.Contains(name, "reuseportd-upstreams"):
		l.board = fd
	case domain == unix.AF_UNIX && typ == unix.SOCK_SEQPACKET && listens == 1:
		l.rescue = fd
	case domain == unix.AF_UNIX && typ == unix.SOCK_SEQPACKET && number == 3:
		l.channel = fd
	case domain == unix.AF_INET && listens == 1:
		sa, _ := unix.Getsockname(fd)
		if in4, ok := sa.(*unix.SockaddrInet4); ok {
			l.shards[fmt.Sprintf("127.0.0.1:%d", in4.Port)] = fd
		}
	default:
		_ = unix.Close(fd)
	}
}

func (l *loot) close() {
	for _, fd := range []int{l.channel, l.rescue, l.ledger, l.board} {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
	for _, fd := range l.shards {
		_ = unix.Close(fd)
	}
}
