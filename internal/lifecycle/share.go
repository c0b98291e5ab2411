package lifecycle

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"reuseportd/internal/config"
	"reuseportd/internal/control"
	"reuseportd/internal/shard"
	"reuseportd/internal/sockdiag"
)

// The kernel lets two services of one user listen at one address, and gives each a share of the
// clients. That is refused unless both say `share: true`: before anything is started
// (lookAround), and by the kernel when the first socket of an address listens (shard.Group.Listen). Who
// joins later, and asks nobody, is told by the log and by `status`.

// lookEvery is how often the master looks who else listens at its addresses: some 0.2 ms, and a
// microsecond for each listening socket of the machine.
const lookEvery = 5 * time.Second

// lookShare is how many times as long as a look took nobody looks again, so that no local user makes the master do little else
// by many sockets.
const lookShare = 100

// own yields the service's groups: each socket that listens is in custody, whichever generation it
// is of and whoever bound it.
func (c *Core) own(yield func(*shard.Group) bool) {
	for _, g := range c.groups {
		if !yield(g.Group) {
			return
		}
	}
}

// lookAround refuses an address at which nobody of this service listens yet, and others do.
func (c *Core) lookAround(g *group, t *sockdiag.Table) error {
	err := g.Look(t)
	if taken := (*shard.TakenError)(nil); err != nil && !errors.As(err, &taken) {
		if !c.blind {
			c.blind = true
			c.log.Warn().Err(err).Msg("whether other services listen at the same addresses is not known: the kernel doesn't say")
		}
		return nil
	}
	return err
}

// others returns who else listens at a group's address.
func (g *group) others(t *sockdiag.Table) []control.Other {
	sockets, err := g.Others(t)
	sockets = slices.DeleteFunc(sockets, func(s sockdiag.Socket) bool { return !shard.Answers(s) })
	if err != nil || len(sockets) == 0 {
		return nil
	}
	var out []control.Other
	for _, h := range sockdiag.Holders(sockets) {
		at := g.Key()
		if h.Socket.Local.IsValid() {
			at = h.Socket.Local.String()
		} else {
			_, at, _ = strings.Cut(at, "!")
		}
		out = append(out, control.Other{
			Address: at, PID: h.PID, Command: h.Command, Children: h.Others,
			UID: h.Socket.UID, Inode: h.Socket.Inode, Shared: g.Share(),
		})
	}
	return out
}

// watchAddresses logs who else begins to listen at an address.
func (c *Core) watchAddresses() {
	if c.stop || c.now.Sub(c.lookedAt) < max(lookEvery, lookShare*c.lookTook) {
		return
	}
	c.lookedAt = c.now
	began := time.Now()
	t := sockdiag.Listening()
	c.lookTook = time.Since(began)
	for _, key := range slices.Sorted(maps.Keys(c.groups)) {
		g := c.groups[key]
		if g.Listening() == 0 || g.Refused() || g.Lost() {
			continue
		}
		sockets, err := g.Others(t)
		if err != nil {
			continue
		}
		known := make(map[uint64]bool)
		fresh := false
		for _, s := range sockets {
			known[s.Cookie] = true
			fresh = fresh || !g.met[s.Cookie]
		}
		g.met = known
		if !fresh || g.Share() {
			continue
		}
		for _, o := range g.others(t) {
			c.log.Warn().Str("address", key).Str("other_address", o.Address).Int("other_pid", o.PID).
				Str("other_command", o.Command).Uint32("other_uid", o.UID).Uint32("inode", o.Inode).
				Msg("another process listens at this address too: clients come to either")
		}
	}
}

// leavesBehind returns who listens at the addresses that this service has left.
func (c *Core) leavesBehind() []control.Other {
	var out []control.Other
	t := sockdiag.Listening()
	for _, g := range c.left {
		out = append(out, g.others(t)...)
	}
	return out
}

// leaving notes the addresses that a stop leaves.
func (c *Core) leaving() {
	for _, key := range slices.Sorted(maps.Keys(c.groups)) {
		if g := c.groups[key]; g.Listening() > 0 && !g.Refused() && !slices.Contains(c.left, g) {
			c.left = append(c.left, g)
		}
	}
}

// inOrder returns the listeners of a configuration, in an order that all services have: two that
// start at the same time with several addresses in common then meet at the first one, and
// never does each have what the other wants.
func inOrder(conf *config.Config) []*config.Listener {
	var ls []*config.Listener
	for i := range conf.Listeners {
		ls = append(ls, &conf.Listeners[i])
	}
	slices.SortFunc(ls, func(a, b *config.Listener) int { return strings.Compare(a.Key(), b.Key()) })
	return ls
}
