package shard

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"reuseportd/internal/failpoint"
)

// Bind adds shards until there are n, bound but not listening: no connection reaches them
// yet, and if Bind fails the group is unchanged. Its error is such as `bind web
// 127.0.0.1:80: address already in use (…)`. A Unix socket never has more than one. A
// refused group may grow too, before Unrefuse.
func (g *Group) Bind(n int) error {
	had := len(g.shards)
	if g.hidden < had && !g.refused {
		return g.fail("bind", fmt.Errorf("shards from %d on are about to be closed", g.hidden))
	}
	if g.addr.unix() {
		n = min(n, 1)
	}
	for len(g.shards) < n {
		fd, err := g.bindOne()
		if err != nil {
			for _, fd := range g.shards[had:] {
				_ = unix.Close(fd)
			}
			g.shards, g.hidden = g.shards[:had], min(g.hidden, had)
			g.cookies = g.cookies[:min(len(g.cookies), had)]
			return g.fail("bind", err)
		}
		g.shards = append(g.shards, fd)
		if !g.refused {
			g.hidden = len(g.shards)
		}
	}
	return nil
}

func (g *Group) bindOne() (int, error) {
	sa, err := g.addr.sockaddr()
	if err != nil {
		return -1, err
	}
	fd, err := unix.Socket(g.addr.family(), unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if bad := failpoint.Hit("shard-socket"); bad != nil && err == nil {
		_ = unix.Close(fd)
		err = bad
	}
	if err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	if g.addr.unix() {
		err = g.addr.bindUnix(fd)
	} else if err = errors.Join(g.setOptions(fd), g.tuning.apply(fd)); err == nil {
		err = unix.Bind(fd, sa)
	}
	if bad := failpoint.Hit("shard-bind"); err == nil {
		err = bad
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// setOptions prepares a TCP socket. IPV6_V6ONLY is set either way, since its default is a
// sysctl and a dual-stack socket would take the IPv4 listener's connections.
func (g *Group) setOptions(fd int) error {
	options := []option{
		{"SO_REUSEADDR", unix.SOL_SOCKET, unix.SO_REUSEADDR, 1},
		{"SO_REUSEPORT", unix.SOL_SOCKET, unix.SO_REUSEPORT, 1},
	}
	if g.addr.network == "tcp6" {
		options = append(options, option{"IPV6_V6ONLY", unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1})
	}
	return setAll(fd, options)
}

// Listen makes every bound shard listen, in slot order: a shard's place in the kernel's
// group follows the order of the listen(2) calls. From each call on the shard gets its
// share of new connections, which wait in its queue until somebody accepts. If it fails,
// the shards before the failing one listen, and Listen can be called again or the group
// shrunk. A TakenError means that others have the address.
func (g *Group) Listen() error {
	if g.refused && g.listening < len(g.shards) {
		return g.fail("listen", errors.New("the group is refused"))
	}
	if g.listening < len(g.shards) {
		if err := failpoint.Hit("shard-listen"); err != nil {
			return g.fail("listen", err)
		}
	}
	if g.listening == 0 && len(g.shards) > 0 {
		if err := g.listenFirst(); err != nil {
			return g.fail("listen", err)
		}
	}
	for g.listening < len(g.shards) {
		// The address is the group's already, but a service that is just being refused may be
		// in the way.
		if err := again(func() error { return unix.Listen(g.shards[g.listening], g.backlog) }); err != nil {
			return g.fail("listen", err)
		}
		g.listening++
	}
	return nil
}
