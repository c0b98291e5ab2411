package shard

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// How to retire the shards from n on:
//
// 1. Steer(n): new connections go to the shards that stay. 2. HalfOpen at once, then
// Halves.Left until it returns 0: the
//     handshakes that began on any shard before are complete.
//  3. Somebody accepts from the retiring shards until QueueLen is 0 for each.
//  4. Every worker closes its descriptor of them.
//  5. CloseDown(n) closes the last reference, unseen by any SYN.
//  6. Unsteer.

// CloseDown closes the shards from the top slot down until n are left. Those that listen
// must be out of use (Steer) and empty (QueueLen): what is still queued is reset.
// CloseDown waits for the kernel a few milliseconds; nothing is lost meanwhile.
func (g *Group) CloseDown(n int) error {
	if n < 0 || n > len(g.shards) {
		return g.fail("retire", fmt.Errorf("down to %d of %d shards", n, len(g.shards)))
	}
	if g.steered > n {
		return g.fail("retire", fmt.Errorf("down to %d shards while steered to %d", n, g.steered))
	}
	// Before Linux 5.7 hiding needs CAP_NET_RAW. Without it the close has the race that hide
	// describes. That is no reason to keep the sockets.
	_ = g.hideFrom(n)
	var errs []error
	for len(g.shards) > n {
		errs = append(errs, g.closeTop())
	}
	if err := errors.Join(errs...); err != nil {
		return g.fail("retire", err)
	}
	return nil
}

// hideFrom hides the shards from n on, and waits until no segment can be on its way to
// them.
func (g *Group) hideFrom(n int) error {
	if g.addr.unix() || n >= g.hidden {
		return nil
	}
	for _, fd := range g.shards[n:g.hidden] {
		if err := hide(fd); err != nil {
			return err
		}
	}
	g.hidden = n
	settle()
	return nil
}

func (g *Group) closeTop() error {
	top := len(g.shards) - 1
	err := unix.Close(g.shards[top])
	g.shards = g.shards[:top]
	g.cookies = g.cookies[:min(len(g.cookies), top)]
	g.listening = min(g.listening, top)
	g.hidden = min(g.hidden, top)
	g.steered = min(g.steered, top)
	if err != nil {
		return fmt.Errorf("close shard %d: %w", top, err)
	}
	return nil
}

// Remove closes every shard and unlinks a Unix socket's path, at the end of a listener.
// Call Refuse before, and accept what is queued: the rest is reset.
func (g *Group) Remove() error {
	var errs []error
	if g.addr.unix() && len(g.shards) > 0 {
		errs = append(errs, g.addr.unlinkOwn())
	}
	g.steered = 0
	errs = append(errs, g.CloseDown(0))
	g.refused = false
	return errors.Join(errs...)
}
