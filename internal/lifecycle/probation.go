package lifecycle

import (
	"fmt"
	"os"
	"slices"
	"time"

	"reuseportd/internal/config"
	"reuseportd/internal/control"
)

// trialDeaths is how many deaths of its workers a generation on probation may
// have before what was before it is brought back.
const trialDeaths = 3

// trial is the probation of a generation.
type trial struct {
	gen    *generation
	until  time.Time
	deaths int
	prior  *Prior
}

// Prior is what a change replaced, as far as it is needed to bring it back.
type Prior struct {
	generation uint64
	Conf       *config.Config
	// Image is the binary, open since before its file may have been replaced; nil
	// is this master's own.
	Image *os.File
	// proven is what served before, if this was still on probation itself. It has
	// none of its own, so that no sequence of changes makes a chain.
	proven *Prior
	bad    uint64 // the generation on probation, once it is to go
}

// discard lets go of the images.
func (c *Core) discard(p *Prior) {
	for ; p != nil; p = p.proven {
		if p.Image != nil {
			c.do(Discard{p.Image})
		}
	}
}

// beginTrial puts a generation that is about to serve on probation. It is called
// before the one that it replaces drains.
func (c *Core) beginTrial(g *generation) {
	p := c.priorOf()
	c.endTrial()
	switch d := g.conf.Probation; {
	case p == nil:
	case d == 0:
		c.discard(p)
	default:
		c.trial = &trial{gen: g, until: c.now.Add(d), prior: p}
	}
}

// priorOf returns what to bring back if the change in progress turns out to be
// bad, nil if there is nothing.
func (c *Core) priorOf() *Prior {
	var old *generation
	for _, g := range c.gens {
		if g.state == serving {
			old = g
		}
	}
	switch ch := c.change; {
	case old == nil:
		return nil
	case ch.action == "reload":
		return &Prior{generation: old.id, Conf: old.conf, proven: c.provenBefore(old)}
	case ch.action == "upgrade" || ch.action == "takeover":
		if image := c.predecessor; image != nil {
			c.predecessor = nil
			return &Prior{generation: old.id, Conf: old.conf, Image: image}
		}
	case ch.action == "rollback" && ch.back != nil: // it is nil in the next master
		return ch.back.proven // to what was on probation itself
	}
	return nil
}

// provenBefore returns what served before a generation that is on probation, and
// takes it out of the trial that ends.
func (c *Core) provenBefore(g *generation) *Prior {
	t := c.trial
	if t == nil || t.gen != g {
		return nil
	}
	c.trial = nil
	if p := t.prior.proven; p != nil {
		return p
	}
	return t.prior
}

func (c *Core) endTrial() {
	if c.trial != nil {
		c.discard(c.trial.prior)
		c.trial = nil
	}
}

// judge counts the death of a worker that serves, whose trouble began at some
// time. Each one prolongs the probation: a worker that hangs is found out late.
func (c *Core) judge(g *generation, began time.Time) {
	t := c.trial
	if t == nil || t.gen != g || began.After(t.until) {
		return
	}
	t.deaths++
	if until := c.now.Add(g.conf.Probation); until.After(t.until) {
		t.until = until
	}
	if t.deaths < trialDeaths {
		return
	}
	why := fmt.Sprintf("%d workers of generation %d died on probation", t.deaths, g.id)
	c.log.Error().Uint64("generation", g.id).Int("deaths", t.deaths).Uint64("previous", t.prior.generation).
		Msg(why + ": rolling back to " + whatComesBack(t.prior.Image != nil))
	c.trial = nil
	t.prior.bad = g.id
	ch := &change{action: "rollback", cause: why, started: c.now, back: t.prior}
	c.pending = append([]*change{ch}, c.pending...)
	c.next()
}

func whatComesBack(binary bool) string {
	if binary {
		return "the previous binary and configuration"
	}
	return "the previous configuration"
}

// rollBack begins a rollback, unless another change has replaced the bad generation
// while it was waited for.
func (c *Core) rollBack(ch *change) {
	if s := c.serving(); s == nil || s.id != ch.back.bad {
		c.log.Info().Uint64("generation", ch.back.bad).Msg("another change has replaced the generation already: nothing is rolled back")
		c.discard(ch.back)
		c.change = nil
		c.next()
		return
	}
	if ch.back.Image != nil {
		c.startUpgrade(ch.back)
		return
	}
	c.bringUp(ch.back.Conf)
}

// rolledBack notes at the cut-over of a rollback what has become of the change
// that it undoes, and of the file.
func (c *Core) rolledBack(bad uint64) {
	for _, r := range c.receipts {
		if r.OK && r.Generation == bad {
			r.Undone = c.change.cause
		}
	}
	c.refused = c.change.cause + "; " + whatComesBack(c.change.upgrades()) + " was brought back"
}

// rollbackFailed notes that the bad generation serves on.
func (c *Core) rollbackFailed(err error) {
	c.refused = fmt.Sprintf("%s; %s could not be brought back: %v", c.change.cause, whatComesBack(c.change.upgrades()), err)
	c.discard(c.change.back)
}

// Seen returns the hash of the file's content that was dealt with. What was rolled
// back must not be loaded again because it still stands there; what was written
// since then must be.
func (c *Core) Seen(conf *config.Config, r *control.Receipt) string {
	if r.Action == "rollback" && r.OK {
		for _, bad := range slices.Backward(c.receipts) {
			if bad.OK && bad.Generation == r.Previous {
				return bad.ConfigSHA256
			}
		}
	}
	return conf.SHA256
}
