package upgrade

import (
	"fmt"
	"os"
	"time"

	"reuseportd/internal/config"
)

// trialDeaths is how many deaths of its workers a generation on probation may
// have before what was before it is brought back.
const trialDeaths = 3

// trial is the probation of a generation.
type trial struct {
	gen    *generation
	until  time.Time
	deaths int
	prior  *prior
}

// prior is what a change replaced, as far as it is needed to bring it back.
type prior struct {
	generation uint64
	version    string
	conf       *config.Config
	// image is the binary, open since before its file may have been replaced; nil
	// is this master's own.
	image *os.File
}

// close lets go of the image.
func (p *prior) close() {
	if p.image != nil {
		_ = p.image.Close()
	}
}

// beginTrial puts a generation that is about to serve on probation. It is called
// before the one that it replaces drains.
func (c *core) beginTrial(g *generation) {
	c.endTrial()
	d := g.conf.Probation
	if a := c.change.action; d == 0 || a != "reload" && a != "upgrade" && a != "takeover" {
		return
	}
	for _, old := range c.gens {
		if old.state == serving {
			p := &prior{generation: old.id, version: c.version, conf: old.conf}
			if c.change.action != "reload" {
				if p.image = c.host.Predecessor(); p.image == nil {
					return
				}
			}
			c.trial = &trial{gen: g, until: c.now.Add(d), prior: p}
		}
	}
}

func (c *core) endTrial() {
	if c.trial != nil {
		c.trial.prior.close()
		c.trial = nil
	}
}

// judge counts the death of a worker that serves, whose trouble began at some
// time. Each one prolongs the probation: a worker that hangs is found out late.
func (c *core) judge(g *generation, began time.Time) {
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
	for _, r := range c.receipts {
		if r.OK && r.Generation == g.id {
			r.Undone = why
		}
	}
	what := "the previous configuration"
	if t.prior.image != nil {
		what = "the previous binary and configuration"
	}
	c.log.Error().Uint64("generation", g.id).Int("deaths", t.deaths).Uint64("previous", t.prior.generation).
		Msg(why + ": rolling back to " + what)
	c.refused = why + "; " + what + " was brought back"
	c.trial = nil
	ch := &change{action: "rollback", cause: why, started: c.now, back: t.prior}
	c.pending = append([]*change{ch}, c.pending...)
	c.next()
}
