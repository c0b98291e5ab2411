package shard

import (
	"errors"
	"fmt"
	"iter"

	"golang.org/x/sys/unix"

	"reuseportd/internal/config"
)

// Group is the sockets of one address.
type Group struct {
	name    string // of the listener, for messages
	backlog int    // listen(2)
	tuning  tuning // not used for a Unix socket
	addr    address
	// shards are the descriptors. Invariant: the index is the slot, and for
	// those that listen also the kernel's index in the reuseport group, unless
	// unordered.
	shards []int
	// own yields all groups of the service; nil: none are known.
	own iter.Seq[*Group]
	// cookies are those of the first shards, as far as they have been asked for.
	cookies []uint64
	// listening is how many shards listen; they come first. Invariant: 0 ≤ listening ≤
	// len(shards).
	listening int
	// policy chooses among the shards. Invariant: its program is attached, except in an
	// adopted group before SetPolicy, and for the kernel's hash, which needs a program only
	// while steered is not 0.
	policy Policy
	// unordered says that the kernel's indexes are not the slots: Adopt has replaced
	// a shard.
	unordered bool
	// steered is the number of shards, from slot 0, among which a steering
	// program chooses; 0 when there is none and the kernel's hash chooses.
	// Invariant: steered ≤ listening.
	steered int
	// hidden is the index from which on shards are hidden, so that no SYN finds them.
	// Invariant: hidden ≤ len(shards), equal when nothing is hidden.
	hidden int
	// refused says that no new connection can begin: all shards that listen are hidden, or
	// the path of a Unix socket is unlinked.
	refused bool
}

// NewGroup returns the group of l's address with no shards yet.
func NewGroup(l *config.Listener) (*Group, error) {
	addr, err := parseKey(l.Key())
	if err != nil {
		return nil, fmt.Errorf("listener %s: %w", l.Name, err)
	}
	g := &Group{addr: addr}
	g.describe(l)
	return g, nil
}

// describe takes over those settings of a listener that don't touch a socket.
func (g *Group) describe(l *config.Listener) {
	g.name = l.Name
	g.backlog = l.Backlog
	g.addr.mode = l.Mode
	g.tuning = tuningOf(l)
}

// Update takes over name, backlog, permissions and socket options of a listener with the same key,
// as a reload may change them. It doesn't change the number of shards; the caller does.
func (g *Group) Update(l *config.Listener) error {
	if l.Key() != g.Key() {
		return fmt.Errorf("listener %s: group %s is not %s", l.Name, g.Key(), l.Key())
	}
	old := *g
	g.describe(l)
	if g.addr.unix() && g.addr.mode != old.addr.mode && g.listening > 0 {
		if err := g.addr.chmod(); err != nil {
			return g.fail("bind", err)
		}
	}
	if !g.addr.unix() && (g.tuning != old.tuning || old.name == "") {
		if err := g.tuning.retune(g.shards); err != nil {
			return g.fail("bind", err)
		}
	}
	if g.backlog == old.backlog {
		return nil
	}
	for _, fd := range g.shards[:g.listening] {
		// On a socket that listens already this only sets the backlog.
		if err := unix.Listen(fd, g.backlog); err != nil {
			return g.fail("listen", err)
		}
	}
	return nil
}

// Key is config.Listener.Key of the group's listener.
func (g *Group) Key() string { return g.addr.key }

// Name is the listener's name, "" in an adopted group before Update.
func (g *Group) Name() string { return g.name }

// Len returns the number of shards, Listening how many of them listen.
func (g *Group) Len() int { return len(g.shards) }

// Listening returns the number of shards that listen; these are the first ones.
func (g *Group) Listening() int { return g.listening }

// Steered returns the number of shards that new connections are steered to,
// from slot 0; 0 means all that listen, by the kernel's hash.
func (g *Group) Steered() int { return g.steered }

// Unordered reports whether the kernel's order of the shards may differ from that of the
// slots.
func (g *Group) Unordered() bool { return g.unordered }

// MarkUnordered sets what Unordered reports, as an earlier master knew it.
func (g *Group) MarkUnordered() { g.unordered = true }

// FD returns the descriptor of shard i, for passing it to a worker. The group keeps
// owning it.
func (g *Group) FD(i int) int { return g.shards[i] }

// FDs returns all descriptors in slot order, for passing them to the next master.
func (g *Group) FDs() []int { return append([]int(nil), g.shards...) }

// Detach closes the descriptors and leaves the sockets to their other holders, when the
// next master has custody. No path is unlinked and no connection ends.
func (g *Group) Detach() error {
	var errs []error
	for _, fd := range g.shards {
		errs = append(errs, unix.Close(fd))
	}
	g.shards, g.cookies, g.listening, g.steered, g.hidden = nil, nil, 0, 0, 0
	return errors.Join(errs...)
}
