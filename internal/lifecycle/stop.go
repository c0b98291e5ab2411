package lifecycle

import (
	"fmt"

	"reuseportd/internal/control"
)

// requestStop begins the end: the change to a configuration without listeners.
// What is queued is served, what is open is finished, up to the drain timeout.
// Asked for by signal a second time, it comes at once.
func (c *Core) requestStop(ch *change) {
	if c.stop {
		if ch.cause == CauseSignal {
			c.stopNow()
			return
		}
		for _, p := range c.pending {
			p.waiting = join(p.waiting, ch.waiting...)
		}
		if c.change != nil && c.change.action == "stop" {
			c.change.waiting = join(c.change.waiting, ch.waiting...)
		}
		return
	}
	c.stop = true
	c.endTrial()
	for _, p := range c.pending {
		c.refuse(p, "the service is stopping")
	}
	c.pending = []*change{ch}
	switch {
	case c.change == nil:
		c.beginStop()
	case c.change.receipt != nil: // past its cut-over
		c.finish(c.change.receipt)
		c.beginStop()
	case c.change.upgrades() && c.change.gen == nil && c.change.errand == nil:
		c.do(CancelUpgrade{})
	default:
		c.change.fatal = false
		c.fail(errStopping)
		c.beginStop()
	}
}

var errStopping = fmt.Errorf("the service is stopping")

// beginStop drains everything. It waits for an upgrade that is being cancelled.
func (c *Core) beginStop() {
	if !c.stop || c.change != nil || len(c.pending) == 0 {
		return
	}
	c.change, c.pending = c.pending[0], nil
	c.change.base = c.ledger.Total()
	c.leaving()
	c.log.Info().Str("cause", c.change.cause).Msg("stopping: no new connections; open ones are finished")
	for _, g := range c.gens {
		if g.state == serving {
			c.drain(g)
		}
	}
	c.retireSurplus()
	c.reconcile()
	c.exitIfStopped()
}

// exitIfStopped ends the master when nothing is left of the service.
func (c *Core) exitIfStopped() {
	if c.change == nil || c.change.action != "stop" || len(c.gens) > 0 || len(c.groups) > 0 {
		return
	}
	r := c.receipt(nil)
	sum, base := c.ledger.Total(), c.change.base
	r.HandedOver, r.Finished, r.Cut = sum.HandedOver-base.HandedOver, sum.Finished-base.Finished, sum.Cut-base.Cut
	r.Others = c.leavesBehind()
	c.finish(r)
	c.do(Exit{c.exit})
}

// stopStarting ends a start that has failed after its first socket listened: as a stop, so that who
// waits in a queue is served. r is the start's receipt.
func (c *Core) stopStarting(r *control.Receipt) {
	c.stop, c.exit = true, 1
	for _, p := range c.pending {
		c.refuse(p, errStopping.Error())
	}
	c.pending = []*change{{action: "stop", cause: "the start has failed", started: c.now}}
	c.finish(r)
	c.beginStop()
}

// stopNow ends everything at once: the sockets, and every worker. The master
// goes when they have.
func (c *Core) stopNow() {
	c.log.Warn().Msg("asked to stop a second time: ending at once")
	c.leaving()
	for key, g := range c.groups {
		if err := g.Remove(); err != nil {
			c.log.Error().Err(err).Str("address", key).Msg("closing sockets")
		}
		delete(c.groups, key)
	}
	for _, g := range c.gens {
		if g.state == serving {
			g.enter(draining, c.now)
			g.deadline = c.now
		}
		for _, w := range g.workers {
			c.kill(w, "second request to stop")
		}
	}
	if c.change == nil || c.change.action != "stop" {
		// An upgrade is being cancelled, which nobody waits for any more.
		c.change = &change{action: "stop", cause: CauseSignal, started: c.now, base: c.ledger.Total()}
		for _, p := range c.pending {
			c.change.waiting = join(c.change.waiting, p.waiting...)
		}
		c.pending = nil
	}
	c.forgetGone()
	c.exitIfStopped()
}
