package lifecycle

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"reuseportd/internal/config"
	"reuseportd/internal/failpoint"
	"reuseportd/internal/sandbox"
	"reuseportd/internal/shard"
	"reuseportd/internal/shortage"
	"reuseportd/internal/sockdiag"
)

// bringUp starts the generation of the change in progress: addresses bound,
// processes started. Nothing is accepted, and what serves is not touched.
func (c *Core) bringUp(conf *config.Config) {
	for _, w := range conf.Warnings {
		c.log.Warn().Msg(w.Error())
	}
	if who := conf.Credential; who != nil && c.otherUser(who) {
		c.log.Info().Msgf("workers run as %s", who)
	}
	ch, e := c.change, c.errand("logs", "opening the log files")
	await(c, ch, e, func(logs Logs, err error) {
		if err != nil {
			c.fail(err)
			return
		}
		c.equip(conf, logs)
	}, Logs.Close)
	c.do(OpenLogs{e, conf})
}

// build makes the generation of the change in progress.
func (c *Core) build(conf *config.Config, logs Logs) {
	err := c.bind(conf)
	if err != nil {
		logs.Close()
		c.fail(err)
		return
	}
	c.lastID++
	g := &generation{id: c.lastID, conf: conf, state: starting, since: c.now}
	for i := range conf.Workers {
		w := &worker{gen: g, index: i, state: backoff, since: c.now}
		for t := range conf.Threads {
			w.slots = append(w.slots, i*conf.Threads+t)
		}
		if w.page, err = c.reserve(g, len(w.slots)); err != nil {
			logs.Close()
			c.fail(err)
			return
		}
		c.board.ClearRows(w.page, len(w.slots))
		c.clients.ClearRows(w.page, len(w.slots))
		g.workers = append(g.workers, w)
	}
	c.makeLoad(g)
	c.gens = append(c.gens, g)
	c.do(KeepLogs{g.id, logs})
	c.change.gen = g
	c.change.progress = fmt.Sprintf("generation %d: %d workers are getting ready", g.id, conf.Workers)
	c.divide()
	for _, w := range g.workers {
		if c.spawn(w); g.state != starting {
			return // it has failed
		}
	}
}

// otherUser reports whether the workers that serve, if any do, run as somebody else.
func (c *Core) otherUser(who *config.Credential) bool {
	s := c.serving()
	return s == nil || s.conf == nil || s.conf.Credential == nil || s.conf.Credential.String() != who.String()
}

// reserve gives a worker of g pages of the ledger, none of which another worker has.
func (c *Core) reserve(g *generation, n int) (int, error) {
	taken := make(map[int]bool)
	for _, other := range append(slices.Clone(c.gens), g) {
		for _, w := range other.workers {
			for i := range w.slots {
				taken[w.page+i] = true
			}
		}
	}
	page, spoilt, err := c.ledger.Reserve(g.id, n, func(i int) bool { return taken[i] })
	if spoilt {
		c.log.Error().Msg("a worker has spoilt the table of the counters' memory: room was made by what this master knows; what others had counted there is lost")
	}
	return page, err
}

// bind makes the sockets that a configuration needs and that are not there yet.
// They don't listen, so nothing reaches them.
func (c *Core) bind(conf *config.Config) error {
	look := sync.OnceValue(sockdiag.Listening) // a reload of addresses that are held doesn't ask
	for i := range conf.Listeners {
		l := &conf.Listeners[i]
		g := c.groups[l.Key()]
		if g == nil {
			made, err := shard.NewGroup(l)
			if err != nil {
				return err
			}
			g = c.addGroup(made)
		}
		if err := g.Bind(want(l, conf)); err != nil {
			return conf.At(l.Pos, err)
		}
		if g.Listening() == 0 {
			if err := c.lookAround(g, look()); err != nil {
				return conf.At(l.Pos, err)
			}
		}
	}
	return nil
}

// addGroup puts sockets into custody.
func (c *Core) addGroup(made *shard.Group) *group {
	g := &group{Group: made}
	g.SetOwn(c.own)
	c.groups[g.Key()] = g
	return g
}

// want returns how many shards a listener has in a configuration.
func want(l *config.Listener, conf *config.Config) int { return l.Sockets(conf.Slots()) }

// workerReady is told that a worker has built everything.
func (c *Core) workerReady(w *worker) {
	if w.state != starting {
		return
	}
	w.enter(ready, c.now)
	g := w.gen
	switch g.state {
	case starting:
		for _, w := range g.workers {
			if w.state != ready {
				return
			}
		}
		g.enter(ready, c.now)
		if c.established {
			c.activate()
			return
		}
		c.do(Commit{})
	case serving, activating: // a replacement
		w.enter(serving, c.now)
		c.reconcile()
	case draining: // a replacement that came too late
		c.drainWorker(w)
	}
}

// activate makes the new sockets listen and lends every shard to the new
// generation. Until all of it has acknowledged, the old one accepts too.
func (c *Core) activate() {
	if err := failpoint.Hit("ready-activate"); err != nil {
		c.fail(err)
		return
	}
	g := c.change.gen
	g.enter(activating, c.now)
	for _, l := range inOrder(g.conf) {
		if err := c.groups[l.Key()].keep(want(l, g.conf)); err != nil {
			c.fail(g.conf.At(l.Pos, err))
			return
		}
	}
	c.reconcile()
	c.cutOverIfAcknowledged()
}

// keep ends a retirement that is in progress and makes the group's first n
// shards listen. New connections go where they went, up to the cut-over.
func (g *group) keep(n int) error {
	if g.retiring != nil {
		if err := g.revive(); err != nil {
			return err
		}
	}
	if err := g.Bind(n); err != nil {
		return err
	}
	if old := g.Listening(); old > 0 && old < g.Len() && g.Steered() == 0 {
		// Nobody accepts from the new shards yet: they get connections at the cut-over.
		if err := g.Steer(old); err != nil {
			return err
		}
	}
	return g.Listen()
}

// cutOverIfAcknowledged ends the activation when no lease of the new generation
// waits for its acknowledgement.
func (c *Core) cutOverIfAcknowledged() {
	if c.change == nil || c.change.gen == nil || c.change.gen.state != activating {
		return
	}
	for _, w := range c.change.gen.workers {
		if len(w.waiting) > 0 {
			return
		}
	}
	if err := failpoint.Hit("activate-drain"); err != nil {
		c.fail(err)
		return
	}
	c.cutOver()
}

// cutOver is the moment at which the old generation stops accepting.
func (c *Core) cutOver() {
	g := c.change.gen
	r := c.receipt(nil)
	r.CutOver = c.now
	c.beginTrial(g)
	c.refused = ""
	if c.change.action == "rollback" {
		c.rolledBack(r.Previous)
	}
	for _, old := range c.gens {
		if old.state == serving {
			r.Previous = old.id
			old.receipt = r
			c.foresee(r, old, g)
			c.doubt(r, old, g)
			c.drain(old)
		}
	}
	c.endOldest(g.conf.MaxDraining)
	g.enter(serving, c.now)
	for _, w := range g.workers {
		w.enter(serving, c.now)
	}
	c.loaded = c.now
	r.Generation, r.ConfigSHA256 = g.id, g.conf.SHA256
	c.change.receipt = r
	c.applySettings(g.conf)
	c.steer(g)
	c.reconcile()
	c.retireSurplus()
	c.finishIfWithdrawn()
}

// letGo bounds how long a change waits for the old generation to have stopped
// accepting. Only a worker that hangs needs so long.
const letGo = time.Second

// finishIfWithdrawn ends a change after its cut-over, when no worker of an older
// generation accepts any more what the new one serves: whoever is told of the
// change, and connects then, meets the new generation.
func (c *Core) finishIfWithdrawn() {
	if c.change == nil || c.change.receipt == nil {
		return
	}
	g := c.change.gen
	for _, w := range c.live() {
		for le := range w.leases {
			if w.gen != g && g.knows(le.key) && c.now.Sub(g.since) < letGo {
				return
			}
		}
	}
	c.finish(c.change.receipt)
}

// applySettings takes over what a configuration says of sockets that were there before,
// and makes the shards that only a changed accept strategy asks for.
func (c *Core) applySettings(conf *config.Config) {
	for i := range conf.Listeners {
		l := &conf.Listeners[i]
		g := c.groups[l.Key()]
		if err := errors.Join(g.Update(l), g.keep(want(l, conf))); err != nil {
			c.log.Error().Err(err).Str("listener", l.Name).Msg("a listener keeps some of its old settings")
		}
	}
}

// fail ends the change in progress without effect: its generation goes, its
// sockets too, and what served serves on. A generation that had begun to accept
// is drained, as what it accepted must be answered.
func (c *Core) fail(err error) {
	err = shortage.Explain(err)
	if g := c.change.gen; g != nil {
		err = fmt.Errorf("generation %d: %w", g.id, err)
		if g.state == activating {
			c.reconcile() // what listens may have clients in its queues
			c.drain(g)
		} else {
			c.abandon(g)
		}
	}
	switch {
	case c.stop:
	case c.change.action == "reload":
		if !errors.Is(err, sandbox.ErrNoAnswer) { // else nothing is known of the file
			c.refused = err.Error()
		}
	case c.change.action == "rollback":
		c.rollbackFailed(err)
	}
	r := c.receipt(err)
	if c.change.fatal {
		// Nothing of what another master may go on with is touched.
		c.dropUnused()
		if g := c.change.gen; g != nil && g.state == draining {
			c.stopStarting(r)
			return
		}
		c.finish(r)
		c.do(Exit{1})
		return
	}
	if s := c.serving(); s != nil {
		c.steer(s) // over its shards alone, also where an earlier master had attached its program
	}
	c.retireSurplus()
	c.finish(r)
}

// dropUnused removes the sockets that never listened, so that no path of a Unix
// socket is left behind.
func (c *Core) dropUnused() {
	for key, g := range c.groups {
		if g.Listening() > 0 {
			continue
		}
		if err := g.Remove(); err != nil {
			c.log.Error().Err(err).Str("address", key).Msg("removing a socket that was not used")
		}
		delete(c.groups, key)
	}
}

// abandon ends a generation that never accepted.
func (c *Core) abandon(g *generation) {
	for _, w := range g.workers {
		if w.running {
			c.kill(w, "its generation has failed")
		}
	}
	g.enter(failed, c.now)
	c.forgetGone()
}
