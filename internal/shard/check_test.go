package shard

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// check returns what invariant is broken, if any; tests call it after each step.
func (g *Group) check() error {
	switch {
	case g.listening < 0 || g.listening > len(g.shards):
		return fmt.Errorf("%d of %d shards listen", g.listening, len(g.shards))
	case g.steered < 0 || g.steered > g.listening:
		return fmt.Errorf("steered to %d of %d shards", g.steered, g.listening)
	case g.hidden < 0 || g.hidden > len(g.shards):
		return fmt.Errorf("hidden from %d of %d shards", g.hidden, len(g.shards))
	}
	for i, fd := range g.shards {
		on, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
		if err != nil {
			return fmt.Errorf("shard %d: %w", i, err)
		}
		if (on == 1) != (i < g.listening) {
			return fmt.Errorf("shard %d: SO_ACCEPTCONN is %d, %d shards listen", i, on, g.listening)
		}
	}
	return nil
}
