package harness

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Loot is what a process of the workers' user may get: duplicates of a worker's descriptors, -1 if
// there is none. A test takes them as root, since workers can't be traced; what is done with them needs
// no privilege.
type Loot struct {
	Rescue, Channel, Ledger, Board int
	Shards                         map[string]int // by address; one of each, if it has several
}

// Rob takes a worker's descriptors.
func Rob(pid int) (*Loot, error) {
	l := &Loot{Rescue: -1, Channel: -1, Ledger: -1, Board: -1, Shards: make(map[string]int)}
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
		fd, err := unix.PidfdGetfd(pidfd, number, 0)
		if err != nil {
			continue // closed meanwhile
		}
		if at := l.place(name, number, fd); at != nil && *at < 0 {
			*at = fd
		} else if !l.keepShard(fd) {
			_ = unix.Close(fd)
		}
	}
	if min(l.Channel, l.Rescue, l.Ledger, l.Board) < 0 {
		l.Close()
		return nil, fmt.Errorf("worker %d has not all that a worker has: %+v", pid, l)
	}
	return l, nil
}

// place returns where a descriptor belongs, nil if nowhere.
func (l *Loot) place(name string, number, fd int) *int {
	switch {
	case strings.Contains(name, "reuseportd-stats"):
		return &l.Ledger
	case strings.Contains(name, "reuseportd-upstreams"):
		return &l.Board
	case option(fd, unix.SO_DOMAIN) != unix.AF_UNIX || option(fd, unix.SO_TYPE) != unix.SOCK_SEQPACKET:
		return nil
	case option(fd, unix.SO_ACCEPTCONN) == 1:
		return &l.Rescue
	case number == 3:
		return &l.Channel
	}
	return nil
}

// keepShard keeps a listening socket of an address that has none yet.
func (l *Loot) keepShard(fd int) bool {
	if option(fd, unix.SO_DOMAIN) != unix.AF_INET || option(fd, unix.SO_ACCEPTCONN) != 1 {
		return false
	}
	sa, _ := unix.Getsockname(fd)
	in4, ok := sa.(*unix.SockaddrInet4)
	if !ok {
		return false
	}
	address := fmt.Sprintf("127.0.0.1:%d", in4.Port)
	if _, had := l.Shards[address]; had {
		return false
	}
	l.Shards[address] = fd
	return true
}

func option(fd, name int) int {
	v, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, name)
	if err != nil {
		return -1
	}
	return v
}

// Close closes all.
func (l *Loot) Close() {
	for _, fd := range []*int{&l.Channel, &l.Rescue, &l.Ledger, &l.Board} {
		if *fd >= 0 {
			_ = unix.Close(*fd)
		}
		*fd = -1
	}
	for address, fd := range l.Shards {
		_ = unix.Close(fd)
		delete(l.Shards, address)
	}
}
