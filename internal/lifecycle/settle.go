package lifecycle

import "time"

// settle goes on with what a killed master had begun with a group: a removal. How
// the others are steered follows the generation that serves.
func (g *group) settle(gens []*generation, now time.Time) error {
	if g.Refused() {
		g.retiring = newRetirement(g, 0, now)
		return nil
	}
	for _, gen := range gens { // the newest that knows it, last
		for i := range gen.conf.Listeners {
			if l := &gen.conf.Listeners[i]; l.Key() == g.Key() {
				if err := g.Update(l); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// settleGenerations ends an activation in whose middle a master was killed: of
// the generations that accept, the newest that has all its workers serves on, and
// the others drain.
func (c *Core) settleGenerations(gens []*generation) {
	var accepting []*generation
	var stays *generation
	for _, g := range gens {
		if g.state != serving {
			continue
		}
		accepting = append(accepting, g)
		alive := 0
		for _, w := range g.workers {
			if w.running {
				alive++
			}
		}
		if stays == nil || alive >= g.conf.Workers {
			stays = g
		}
	}
	for _, g := range accepting {
		if g != stays {
			c.drain(g)
		}
	}
}
