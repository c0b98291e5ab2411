package shard

import (
	"errors"
	"fmt"
	"math"

	"golang.org/x/sys/unix"
)

// noInterface is the index of an interface that no machine has. A socket
// bound to it matches no segment, so the kernel's search for a listening
// socket passes it over, while its queue and the handshakes that it began
// (which are found by their four-tuple) go on. SO_BINDTOIFINDEX doesn't ask whether the
// interface exists, and needs a privilege (CAP_NET_RAW) only to change a
// binding, not to make one; socket(7), net/core/sock.c.
const noInterface = math.MaxInt32

// hide makes a shard invisible to new connections before it is closed. Hiding twice is
// harmless.
//
// Closing alone is not enough, even if steering avoids the shard: the kernel first finds
// some socket of the group, the newest for IPv4, and only then asks the group. Between
// the moment that a closing socket has left the group and the moment that it has left the
// table of listening sockets, a SYN that finds it is given to it, and dropped. The client
// sends it again a second later (TcpExtTCPSynRetrans).
func hide(fd int) error {
	err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX, noInterface)
	if errors.Is(err, unix.EPERM) {
		if hidden, herr := isHidden(fd); herr == nil && hidden {
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("hide: setsockopt SO_BINDTOIFINDEX: %w", err)
	}
	return nil
}

// unhide undoes hide. It fails with EPERM without CAP_NET_RAW.
func unhide(fd int) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX, 0); err != nil {
		return fmt.Errorf("unhide: setsockopt SO_BINDTOIFINDEX: %w", err)
	}
	return nil
}

func isHidden(fd int) (bool, error) {
	index, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX)
	if err != nil {
		return false, fmt.Errorf("getsockopt SO_BINDTOIFINDEX: %w", err)
	}
	return index == noInterface, nil
}

// canUnhide reports whether this process may undo hide. It tries that on a socket of its
// own, since it depends on the user namespace that the network belongs to.
func canUnhide() bool {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	return hide(fd) == nil && unhide(fd) == nil
}

// settle waits until every segment that the kernel was looking up when it was called has
// found its socket: membarrier(2), whose MEMBARRIER_CMD_GLOBAL is an RCU grace period,
// some milliseconds. If membarrier isn't allowed, that is no error: the race that it
// prevents is only a few microseconds wide.
func settle() {
	const membarrierGlobal = 1
	for {
		_, _, errno := unix.Syscall(unix.SYS_MEMBARRIER, membarrierGlobal, 0, 0)
		if !errors.Is(errno, unix.EINTR) {
			return
		}
	}
}
