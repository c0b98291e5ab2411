package shard

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// ErrGone says that Refuse can't be undone: for a Unix socket, whose path has been
// unlinked, and for any other without CAP_NET_RAW.
var ErrGone = errors.New("the sockets can't be shown again")

// ErrNotStale says that a Unix socket's path must not be unlinked: something listens
// there, or it is no socket.
var ErrNotStale = errors.New("in the way")

// fail makes an error that says what was being done to what, and what may help.
func (g *Group) fail(op string, err error) error {
	if taken := (*TakenError)(nil); errors.As(err, &taken) {
		return err
	}
	if hint := g.hint(err); hint != "" {
		return fmt.Errorf("%s %s: %w (%s)", op, g.what(), err, hint)
	}
	return fmt.Errorf("%s %s: %w", op, g.what(), err)
}

// what names the listener and its address.
func (g *Group) what() string {
	if g.name == "" {
		return g.addr.String()
	}
	return g.name + " " + g.addr.String()
}

func (g *Group) hint(err error) string {
	switch {
	case g.addr.unix() && errors.Is(err, unix.ENOENT):
		return "its directory doesn't exist"
	case g.addr.unix():
		return ""
	case errors.Is(err, unix.EADDRINUSE):
		if who := g.holder(); who != "" {
			return who
		}
		return fmt.Sprintf("another program listens there; `ss -ltnp 'sport = :%d'` names it", g.addr.tcp.Port())
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return "no interface of this machine has that address; `ip address` lists them"
	case errors.Is(err, unix.EACCES):
		return "ports below net.ipv4.ip_unprivileged_port_start need root or CAP_NET_BIND_SERVICE"
	}
	return ""
}
