package shard

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Adopt rebuilds a group from the descriptors of its shards in slot order, as another
// master sent them. -1 stands for a shard that was lost with its last holder; a new one
// that listens replaces it (though not at its index in the kernel's group). Adopt takes
// over the descriptors, and closes them if it fails: if one is not a socket of that
// address, or one listens after one that doesn't.
//
// It changes nothing about the sockets. Refused and Listening show what the earlier
// master had begun. Its steering continues until SetPolicy replaces it, when every shard
// is served. Name and backlog come with Update.
func Adopt(key string, shards []int) (*Group, error) {
	g, err := adopt(key, shards)
	if err != nil {
		for _, fd := range shards {
			if fd >= 0 {
				_ = unix.Close(fd)
			}
		}
		return nil, fmt.Errorf("adopt %s: %w", key, err)
	}
	return g, nil
}

func adopt(key string, shards []int) (*Group, error) {
	addr, err := parseKey(key)
	if err != nil {
		return nil, err
	}
	if len(shards) == 0 {
		return nil, errors.New("no shards")
	}
	g := &Group{addr: addr, backlog: unix.SOMAXCONN}
	if addr.unix() && len(shards) > 1 {
		return nil, fmt.Errorf("%d shards of a Unix socket", len(shards))
	}
	for i, fd := range shards {
		if fd < 0 {
			if fd, err = g.replaceOne(); err != nil {
				return nil, fmt.Errorf("replace shard %d: %w", i, err)
			}
			shards[i], g.unordered = fd, true
		}
		if err := g.adoptOne(i, fd); err != nil {
			return nil, fmt.Errorf("shard %d: %w", i, err)
		}
	}
	g.shards = append([]int(nil), shards...)
	return g, g.adoptRefusal()
}

// replaceOne makes a shard that listens.
func (g *Group) replaceOne() (int, error) {
	fd, err := g.bindOne()
	if err != nil {
		return -1, err
	}
	if err := unix.Listen(fd, g.backlog); err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// adoptOne checks one descriptor and counts whether it listens.
func (g *Group) adoptOne(i, fd int) error {
	if err := g.checkSocket(fd); err != nil {
		return err
	}
	on, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	if err != nil {
		return fmt.Errorf("getsockopt SO_ACCEPTCONN: %w", err)
	}
	if on == 1 {
		if g.listening != i {
			return fmt.Errorf("listens, though shard %d doesn't", g.listening)
		}
		g.listening++
	}
	unix.CloseOnExec(fd)
	return nil
}

// checkSocket checks family, type, options and address.
func (g *Group) checkSocket(fd int) error {
	want := []option{
		{"SO_DOMAIN", unix.SOL_SOCKET, unix.SO_DOMAIN, g.addr.family()},
		{"SO_TYPE", unix.SOL_SOCKET, unix.SO_TYPE, unix.SOCK_STREAM},
	}
	if !g.addr.unix() {
		want = append(want, option{"SO_REUSEPORT", unix.SOL_SOCKET, unix.SO_REUSEPORT, 1})
	}
	for _, o := range want {
		got, err := unix.GetsockoptInt(fd, o.level, o.opt)
		if err != nil {
			return fmt.Errorf("getsockopt %s: %w", o.name, err)
		}
		if got != o.value {
			return fmt.Errorf("%s is %d, want %d", o.name, got, o.value)
		}
	}
	return g.checkAddress(fd)
}

func (g *Group) checkAddress(fd int) error {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return fmt.Errorf("getsockname: %w", err)
	}
	var got, want string
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		got = netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port)).String()
		want = g.addr.tcp.String()
	case *unix.SockaddrInet6:
		got = netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port)).String()
		want = netip.AddrPortFrom(g.addr.tcp.Addr().WithZone(""), g.addr.tcp.Port()).String()
	case *unix.SockaddrUnix:
		got, want = sa.Name, g.addr.path
	}
	if got != want {
		return fmt.Errorf("bound to %s", got)
	}
	return nil
}

// adoptRefusal finds out how far an earlier master had come in removing the listener, or
// in closing the shards at the top.
func (g *Group) adoptRefusal() error {
	g.hidden = len(g.shards)
	if g.addr.unix() {
		err := g.addr.remember()
		if err == nil && g.boundElsewhere() {
			g.addr.dev, g.addr.ino = 0, 0 // the file there is another program's
			g.refused = true
		}
		if errors.Is(err, unix.ENOENT) {
			g.refused, err = true, nil
		}
		return err
	}
	for i := g.listening - 1; i >= 0; i-- {
		hidden, err := isHidden(g.shards[i])
		if err != nil {
			return err
		}
		if !hidden {
			break
		}
		g.hidden = i
	}
	g.refused = g.hidden == 0
	return nil
}
