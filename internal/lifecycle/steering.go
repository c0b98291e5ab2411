package lifecycle

import (
	"slices"

	"reuseportd/internal/config"
	"reuseportd/internal/shard"
)

// Steering: how the kernel spreads new connections over the shards of an address
// follows the generation that serves. It changes at the cut-over, in one step, when
// every shard is accepted from; growth, shrinking and upgrade are no cases of their own.

// SteersByLoad reports whether a configuration has a listener that is to be steered by load.
func SteersByLoad(conf *config.Config) bool {
	return slices.ContainsFunc(conf.Listeners, func(l config.Listener) bool { return steersByLoad(&l) })
}

// steersByLoad reports whether a listener wants to be steered by load.
func steersByLoad(l *config.Listener) bool {
	return l.Accept == config.AcceptReuseport && l.Steering == config.SteerLoad
}

// makeLoad makes what a generation needs to be steered by load, if it wants to be.
// Where the kernel doesn't let us, something else will do.
func (c *Core) makeLoad(g *generation) {
	for i := range g.conf.Listeners {
		l := &g.conf.Listeners[i]
		if !steersByLoad(l) {
			continue
		}
		if g.load == nil && g.unsteered == nil {
			g.load, g.unsteered = shard.NewLoad(g.conf.Slots())
		}
		if g.unsteered != nil {
			c.log.Warn().Err(g.unsteered).Str("listener", l.Name).Str("steering", string(l.Fallback)).
				Msgf("steering: load can't be had, %s (steering_fallback) is used instead; give the master CAP_BPF and Linux 5.8 or later, or choose another steering, and reload", l.Fallback)
		}
	}
}

// policy returns what is to steer a listener of the generation, and why that is not
// what its configuration asks for, nil if it is.
func (g *generation) policy(l *config.Listener) (shard.Policy, error) {
	if l.Accept != config.AcceptReuseport {
		return shard.Policy{}, nil
	}
	p, why := shard.Policy{Kind: l.Steering}, error(nil)
	if steersByLoad(l) && g.load == nil {
		p.Kind, why = l.Fallback, g.unsteered
	}
	switch p.Kind {
	case config.SteerLoad:
		p.Load = g.load
	case config.SteerCPU:
		for slot := range g.conf.Slots() {
			p.CPUs = append(p.CPUs, g.conf.CPU(slot))
		}
	}
	return p, why
}

// steer has new connections spread as a generation wants that serves.
func (c *Core) steer(g *generation) {
	c.markServed()
	for i := range g.conf.Listeners {
		l := &g.conf.Listeners[i]
		grp := c.groups[l.Key()]
		if grp == nil || grp.Listening() == 0 {
			continue
		}
		n := min(want(l, g.conf), grp.Listening())
		p, why := g.policy(l)
		if err := grp.SetPolicy(p, n); err != nil {
			c.log.Warn().Err(err).Str("listener", l.Name).Msg("the kernel's hash steers instead")
			why = err
			if err := grp.SetPolicy(shard.Policy{}, n); err != nil {
				c.log.Error().Err(err).Str("listener", l.Name).Msg("a listener keeps its old steering")
			}
		}
		grp.why = why
	}
}

// markServed tells the programs which slots are served. A worker's death says so at
// once, its replacement when it has acknowledged what it was lent.
func (c *Core) markServed() {
	for _, g := range c.gens {
		if g.load == nil {
			continue
		}
		served := make([]bool, g.load.Len())
		for _, w := range g.workers {
			for _, s := range w.slots {
				served[s] = w.accepts(s)
			}
		}
		for s, is := range served {
			g.load.Serve(s, is)
		}
	}
}

// accepts reports whether a worker accepts from a slot's own shard of every listener
// that is steered by load.
func (w *worker) accepts(slot int) bool {
	if !w.serves() {
		return false
	}
	for i := range w.gen.conf.Listeners {
		if l := &w.gen.conf.Listeners[i]; steersByLoad(l) && !w.leases[lease{l.Key(), slot, slot}] {
			return false
		}
	}
	return true
}
