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
	tuning  tuning // of no use to a Unix socket
	addr    address
	// shards are the descriptors. Invariant: the index is the slot, and for
	// those that listen also the kernel's index in the reuseport group, unless
	// unordered.
	shards []int
	// own yields the service's groups, of whatever address; nil knows none.
	own iter.Seq[*Group]
	// cookies are those of the first shards, as far as anybody has asked for them.
	cookies []uint64
	// listening shards come first. Invariant: 0 ≤ listening ≤ len(shards).
	listening int
	// policy chooses among the shards. Invariant: a program of it is attached, but
	// for an adopted group before SetPolicy and for the kernel's hash, which needs
	// one only while steered is not 0.
	policy Policy
	// unordered says that the kernel's indexes are not the slots: Adopt has replaced
	// a shard.
	unordered bool
	// steered is the number of shards, from slot 0, among which a steering
	// program chooses; 0 when there is none and the kernel's hash chooses.
	// Invariant: steered ≤ listening.
	steered int
	// hidden shards are those from this index on: no SYN finds them any more.
	// Invariant: hidden ≤ len(shards), equal when nothing is hidden.
	hidden int
	// refused says that no new connection begins: all shards that listen are hidden,
	// or the path of a Unix socket is unlinked.
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

// describe takes over what doesn't touch a socket.
func (g *Group) describe(l *config.Listener) {
	g.name = l.Name
	g.backlog = l.Backlog
	g.addr.mode = l.Mode
	g.tuning = tuningOf(l)
}

// Update takes over name, backlog, permissions and socket options of a listener with the same key,
// as a reload may change them. A smaller or larger number of shards is the
// caller's to bring about.
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
		// On a socket that listens already this sets the backlog alone.
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

// Listening returns the number of shards that listen: those below it.
func (g *Group) Listening() int { return g.listening }

// Steered returns the number of shards that new connections are steered to,
// from slot 0; 0 means all that listen, by the kernel's hash.
func (g *Group) Steered() int { return g.steered }

// Unordered says whether the kernel's order of the shards is not known to be that
// of the slots.
func (g *Group) Unordered() bool { return g.unordered }

// MarkUnordered notes what an earlier master knew.
func (g *Group) MarkUnordered() { g.unordered = true }

// FD returns the descriptor of shard i, to lend to a worker. It stays the group's.
func (g *Group) FD(i int) int { return g.shards[i] }

// FDs returns all descriptors in slot order, to lend to the next master.
func (g *Group) FDs() []int { return append([]int(nil), g.shards...) }

// Forget closes the descriptors and leaves everything else to the other holders
// of them: what an old master does when the new one has custody. No path
// is unlinked and no connection ends.
func (g *Group) Forget() error {
	var errs []error
	for _, fd := range g.shards {
		errs = append(errs, unix.Close(fd))
	}
	g.shards, g.cookies, g.listening, g.steered, g.hidden = nil, nil, 0, 0, 0
	return errors.Join(errs...)
}
