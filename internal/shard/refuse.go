package shard

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// refusal is how new connections are kept from a group that is to be removed.
type refusal int

const (
	accepting refusal = iota
	byHiding          // no SYN finds the shards: refused at once
	byFilter          // a filter drops every SYN: refused when the client tries again
	byUnlink          // a Unix socket's path is gone
)

// Refuse lets no new connection begin, while those that are queued, and
// handshakes that are under way, can still be accepted: the first step of removing a
// listener.
//
// Where this process may undo it (CAP_NET_RAW) the shards are hidden, and a
// client meets a reset at once, or another listener that covers the address,
// such as 0.0.0.0. Elsewhere a socket filter drops every SYN; the client sends it
// again after a second and is refused when the shards are closed by then. A
// Unix socket's path is unlinked.
func (g *Group) Refuse() error {
	if g.refused != accepting || len(g.shards) == 0 {
		return nil
	}
	if g.addr.unix() {
		if err := g.addr.unlinkOwn(); err != nil {
			return g.fail("refuse", err)
		}
		g.refused = byUnlink
		return nil
	}
	if canUnhide() {
		if err := g.hideFrom(0); err != nil {
			return g.fail("refuse", err)
		}
		g.refused = byHiding
		return nil
	}
	return g.refuseByFilter()
}

// refuseByFilter attaches the filter to every shard. Connections accepted while
// it is there inherit it, which does them no harm: a SYN on an
// established connection is never wanted (RFC 9293 section 3.10.7.4).
func (g *Group) refuseByFilter() error {
	for i, fd := range g.shards {
		if err := attach(fd, unix.SO_ATTACH_FILTER, dropSYN); err != nil {
			for _, fd := range g.shards[:i] {
				_ = detachFilter(fd)
			}
			return g.fail("refuse", err)
		}
	}
	g.refused = byFilter
	return nil
}

// dropSYN drops segments that have SYN and not ACK. The data that a filter on
// a TCP socket sees begins with the TCP header (net/ipv4/tcp_ipv4.c,
// tcp_filter); its byte 13 holds the flags, RFC 9293 section 3.1.
var dropSYN = []unix.SockFilter{
	{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: 13},
	{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: 0x12},        // SYN and ACK
	{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: 1, K: 0x02}, // SYN alone: skip one
	{Code: unix.BPF_RET | unix.BPF_K, K: 0xffffffff},                 // the whole segment
	{Code: unix.BPF_RET | unix.BPF_K, K: 0},                          // none of it
}

func detachFilter(fd int) error {
	err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// Unrefuse undoes Refuse, when the address comes back before its shards were
// closed. A Unix socket can't come back to its path without being bound anew:
// Unrefuse fails then with ErrGone, and the caller removes this group and
// makes another one.
func (g *Group) Unrefuse() error {
	switch g.refused {
	case byUnlink:
		return g.fail("unrefuse", ErrGone)
	case byHiding:
		for _, fd := range g.shards {
			if err := unhide(fd); err != nil {
				return g.fail("unrefuse", err)
			}
		}
		g.hidden = len(g.shards)
	case byFilter:
		for _, fd := range g.shards {
			if err := detachFilter(fd); err != nil {
				return g.fail("unrefuse", err)
			}
		}
	}
	g.refused = accepting
	return nil
}

// Refused says whether new connections are kept from the group.
func (g *Group) Refused() bool { return g.refused != accepting }

// hasFilter asks whether a socket filter is attached. SO_GET_FILTER with a
// length of 0 stores nothing and returns the number of instructions as the
// length (net/core/filter.c, sk_get_filter), which no function of package
// unix can be used for: they give it room for less than it may store.
func hasFilter(fd int) (bool, error) {
	var instructions uint32
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_GET_FILTER,
		0, uintptr(unsafe.Pointer(&instructions)), 0)
	if errno != 0 {
		return false, fmt.Errorf("getsockopt SO_GET_FILTER: %w", errno)
	}
	return instructions > 0, nil
}
