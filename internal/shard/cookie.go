package shard

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Cookie returns the kernel's number of a socket (SO_COOKIE, socket(7)): every duplicate
// of its descriptor has the same, and no other socket until the machine is restarted.
func Cookie(fd int) (uint64, error) {
	c, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE)
	if err != nil {
		return 0, fmt.Errorf("getsockopt SO_COOKIE: %w", err)
	}
	return c, nil
}

// Listens reports whether a socket accepts connections. Any process that has a duplicate can end that
// by shutdown(2).
func Listens(fd int) bool {
	v, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	return err == nil && v != 0
}

// Cookies returns the cookies of all shards, in slot order. The slice must not be
// changed.
func (g *Group) Cookies() ([]uint64, error) {
	for len(g.cookies) < len(g.shards) {
		c, err := Cookie(g.shards[len(g.cookies)])
		if err != nil {
			return nil, g.fail("record", err)
		}
		g.cookies = append(g.cookies, c)
	}
	return g.cookies, nil
}
