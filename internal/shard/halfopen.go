package shard

import (
	"net/netip"

	"reuseportd/internal/sockdiag"
)

// Halves are the handshakes that were under way at one moment.
type Halves struct {
	g     *Group
	begun map[pair]struct{}
}

// pair names a handshake.
type pair struct{ local, remote netip.AddrPort }

// HalfOpen returns the handshakes with the group's address that have begun and are not
// complete. Called after Steer, it returns all those that may still put a connection into
// the queue of a retiring shard: a later SYN goes elsewhere, and an earlier one has
// arrived.
//
// It asks the kernel through sock_diag(7), which walks the table of all connections:
// milliseconds on a busy machine. If that isn't available it returns an error; then give
// clients a second or two instead.
func (g *Group) HalfOpen() (*Halves, error) {
	h := &Halves{g: g, begun: map[pair]struct{}{}}
	if g.addr.unix() {
		return h, nil // connect(2) is one step there
	}
	settle()
	err := g.eachHalfOpen(func(p pair) { h.begun[p] = struct{}{} })
	if err != nil {
		return nil, g.fail("half-open connections of", err)
	}
	return h, nil
}

// Left returns how many of the handshakes are still under way. When it returns 0, each
// has failed or is in its shard's accept queue, so from then on QueueLen is right. A
// client that never answers keeps its handshake for net.ipv4.tcp_synack_retries, some 63
// seconds by default: bound the wait.
func (h *Halves) Left() (int, error) {
	if len(h.begun) == 0 {
		return 0, nil
	}
	still := make(map[pair]struct{})
	err := h.g.eachHalfOpen(func(p pair) {
		if _, ok := h.begun[p]; ok {
			still[p] = struct{}{}
		}
	})
	if err != nil {
		return 0, h.g.fail("half-open connections of", err)
	}
	h.begun = still
	if len(still) == 0 {
		// The kernel removes a handshake from the table and adds it to the queue in two steps.
		settle()
	}
	return len(still), nil
}

// eachHalfOpen calls f for every handshake with the group's address.
func (g *Group) eachHalfOpen(f func(pair)) error {
	return sockdiag.TCP(uint8(g.addr.family()), sockdiag.SynRecv, g.addr.tcp.Port(), func(s sockdiag.Socket) {
		// A wildcard address covers every local address with that port, except those of more
		// specific listeners. A few too many do no harm.
		if ip := g.addr.tcp.Addr().WithZone(""); ip.IsUnspecified() || ip == s.Local.Addr() {
			f(pair{s.Local, s.Remote})
		}
	})
}
