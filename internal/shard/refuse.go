package shard

import (
	"errors"

	"golang.org/x/sys/unix"
)

// Refuse lets no new connection begin, while those that are queued or whose handshake is
// under way can still be accepted: the first step of removing a listener. A new client
// gets a reset at once, or another listener that covers the address, such as 0.0.0.0. A
// Unix socket's path is unlinked.
//
// A socket filter that drops every SYN would be worse: the client waits a second before
// it is refused, a wider listener doesn't get the connection, accepted sockets inherit
// the filter, and Linux 6.18 requires a privilege for it.
func (g *Group) Refuse() error {
	if g.refused || len(g.shards) == 0 {
		return nil
	}
	var err error
	if g.addr.unix() {
		err = g.addr.unlinkOwn()
	} else {
		err = g.hideFrom(0)
	}
	if err != nil {
		return g.fail("refuse", err)
	}
	g.refused = true
	return nil
}

// Unrefuse undoes Refuse, if the address is wanted again before its shards are closed. If
// that isn't possible (see Revivable) it returns ErrGone: the group can only be emptied
// and removed. Another group of the same address can be made beside it at once.
func (g *Group) Unrefuse() error {
	if !g.refused {
		return nil
	}
	if g.addr.unix() {
		return g.fail("unrefuse", ErrGone)
	}
	for _, fd := range g.shards {
		err := unhide(fd)
		if errors.Is(err, unix.EPERM) {
			err = ErrGone
		}
		if err != nil {
			return g.fail("unrefuse", err)
		}
	}
	g.hidden, g.refused = len(g.shards), false
	return nil
}

// Refused reports whether no new connection can begin.
func (g *Group) Refused() bool { return g.refused }

// Revivable reports whether Unrefuse would succeed: always for a group that isn't
// refused, never for a Unix socket, whose path is gone, and otherwise if this process may
// undo hiding (CAP_NET_RAW).
func (g *Group) Revivable() bool {
	return !g.refused || !g.addr.unix() && canUnhide()
}
