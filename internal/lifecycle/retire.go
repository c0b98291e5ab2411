package lifecycle

import (
	"errors"
	"time"

	"reuseportd/internal/eventloop"
	"reuseportd/internal/failpoint"
	"reuseportd/internal/shard"
)

// How long handshakes that had begun are waited for. One whose client has gone
// stays half open for a minute. At a stop there is nobody to serve who is late.
const (
	retirePatience = 5 * time.Second
	stopPatience   = time.Second
	retirePoll     = 20 * time.Millisecond
)

// retirement is the emptying of a group's shards from one index on. New
// connections go elsewhere (steered to those that stay) or nowhere (refused, when
// all go); handshakes under way are waited for; what is queued is accepted; then
// the shards are closed, top down.
type retirement struct {
	from    int
	began   time.Time
	halves  *shard.Halves // handshakes that were under way; nil when there are none left
	blind   bool          // the kernel does not tell of handshakes: time must do
	closing bool          // the last leases are being withdrawn
}

// closing reports whether a shard is to be closed as soon as nobody has it, or is
// closed already: g is nil after a stop at once.
func (g *group) closing(index int) bool {
	return g == nil || g.retiring != nil && g.retiring.closing && index >= g.retiring.from
}

// retireSurplus begins to retire what the configuration in force has no use for,
// and drops at once what never listened.
func (c *Core) retireSurplus() {
	conf := c.Conf()
	for key, g := range c.groups {
		n := 0
		if conf != nil && !c.stop {
			for i := range conf.Listeners {
				if l := &conf.Listeners[i]; l.Key() == key {
					n = want(l, conf)
				}
			}
		}
		if err := g.retire(n, c.now); err != nil {
			c.log.Error().Err(err).Str("address", key).Msg("can't retire sockets without risk; they are closed all the same when empty")
		}
		if g.Len() == 0 {
			delete(c.groups, key)
		}
	}
	c.reconcile()
	c.retireStep()
}

// retire begins the retirement of the shards from n on.
func (g *group) retire(n int, now time.Time) error {
	var errs []error
	if floor := max(n, g.Listening()); g.Len() > floor {
		if floor == 0 {
			return g.Remove()
		}
		errs = append(errs, g.CloseDown(floor))
	}
	if g.Listening() <= n || g.retiring != nil && g.retiring.from == n {
		return errors.Join(errs...)
	}
	if n == 0 {
		errs = append(errs, g.Refuse())
	} else if g.Steered() != n { // else the cut-over has seen to it
		errs = append(errs, g.Steer(n))
	}
	g.retiring = newRetirement(g, n, now)
	return errors.Join(errs...)
}

// newRetirement notes which handshakes are under way. It is called when no new
// connection goes to the shards from n on any more.
func newRetirement(g *group, n int, now time.Time) *retirement {
	halves, err := g.HalfOpen()
	return &retirement{from: n, began: now, halves: halves, blind: err != nil}
}

// awaitsHandshakes reports whether a connection may still join the queues.
func (r *retirement) awaitsHandshakes(now time.Time, patience time.Duration) bool {
	if now.Sub(r.began) >= patience {
		return false
	}
	if r.halves != nil {
		left, err := r.halves.Left()
		r.blind = r.blind || err != nil
		if left == 0 {
			r.halves = nil
		}
	}
	return r.blind || r.halves != nil
}

// revive ends a retirement whose shards are wanted again.
func (g *group) revive() error {
	g.retiring = nil
	return g.Unrefuse()
}

// queued returns the connections that wait in the retiring shards.
func (g *group) queued() int {
	total := 0
	for i := g.retiring.from; i < g.Listening(); i++ {
		if n, err := g.QueueLen(i); err == nil {
			total += n
		}
	}
	return total
}

// retireStep takes every retirement one step further, if it can go.
func (c *Core) retireStep() {
	if c.change != nil && c.change.upgrades() {
		return // the next master is counting on the shards as they are
	}
	for key, g := range c.groups {
		if g.retiring == nil {
			continue
		}
		if c.awaited(key) > g.retiring.from {
			continue // a generation that is getting ready will revive them
		}
		if c.home(key) == nil {
			c.abandonShards(key, g)
			continue
		}
		switch r := g.retiring; {
		case r.closing:
			c.closeRetired(key, g)
		case r.awaitsHandshakes(c.now, c.patience()), g.queued() > 0:
		default:
			r.closing = true
			c.reconcile()
		}
	}
	c.exitIfStopped()
}

// awaited returns how many shards of an address the change in progress wants.
func (c *Core) awaited(key string) int {
	if c.change == nil || c.change.gen == nil {
		return 0
	}
	conf := c.change.gen.conf
	for i := range conf.Listeners {
		if l := &conf.Listeners[i]; l.Key() == key {
			return want(l, conf)
		}
	}
	return 0
}

func (c *Core) patience() time.Duration {
	if c.stop {
		return stopPatience
	}
	return retirePatience
}

// closeRetired closes the shards that nobody has any more. A queue that has
// filled in the meantime is served first.
func (c *Core) closeRetired(key string, g *group) {
	for _, w := range c.live() {
		for le := range w.leases {
			if le.key == key && le.index >= g.retiring.from {
				return
			}
		}
	}
	_ = failpoint.Hit("retire-close")
	if g.queued() > 0 {
		g.retiring.closing = false
		c.reconcile()
		return
	}
	c.closeShards(key, g)
}

// abandonShards closes shards that no worker alive can serve: their last
// generation is gone. What is in their queues is lost, and told.
func (c *Core) abandonShards(key string, g *group) {
	if n := g.queued(); n > 0 {
		c.ledger.Add(eventloop.Counters{Cut: uint64(n)})
		c.log.Error().Str("address", key).Int("connections", n).
			Msg("connections that waited to be accepted are lost: no worker is left that serves the address")
	}
	c.closeShards(key, g)
}

func (c *Core) closeShards(key string, g *group) {
	from := g.retiring.from
	g.retiring = nil
	var err error
	if from > 0 {
		err = errors.Join(g.CloseDown(from), g.Unsteer())
	} else {
		err = g.Remove()
		delete(c.groups, key)
	}
	if err != nil {
		c.log.Error().Err(err).Str("address", key).Msg("closing retired sockets")
	}
	c.log.Debug().Str("address", key).Int("shards_left", from).Msg("sockets retired")
	c.next() // which may have waited for it
	c.bindLost()
}
