package lifecycle

import (
	"maps"
	"time"

	"reuseportd/internal/wire"
)

// seat is one event loop.
type seat struct {
	w    *worker
	slot int
}

func (s seat) name() Seat { return Seat{ID: s.w.id(), PID: s.w.pid, Slot: s.slot} }

// bond names a channel between a draining loop and its heir.
type bond struct{ slot, pid, heirSlot int }

// introduceHeirs brings every draining loop together with those of the serving
// generation that are to take its connections. Like the leases, that is computed
// anew after every event: an heir that dies is replaced by its neighbour and then by
// its replacement, and a worker that was draining already gets heirs of the
// newest generation.
func (c *Core) introduceHeirs() {
	s := c.serving()
	if s == nil || s.state != serving || c.stop {
		return
	}
	heirs := s.seats(serving)
	for _, g := range c.gens {
		if g.state != draining {
			continue
		}
		from := g.seats(draining)
		for i, f := range from {
			for _, to := range heirsOf(i, len(from), heirs) {
				b := bond{f.slot, to.w.pid, to.slot}
				if f.w.heirs[b] || c.now.Before(f.w.heirsAt) || c.now.Before(to.w.heirsAt) {
					continue
				}
				f.w.heirs[b] = true
				c.seq++
				c.do(Introduce{c.seq, f.name(), to.name()})
			}
		}
	}
}

// heirsRetry is how long until a channel is tried again that there was no descriptor for.
const heirsRetry = time.Second

// notIntroduced is told that a channel could not be made.
func (c *Core) notIntroduced(e NotIntroduced) {
	c.log.Error().Err(e.Err).Int("worker_pid", e.From.PID).Msg("can't make a channel for handover; it is tried again")
	if w := c.worker(e.From.ID); w != nil {
		w.heirsAt = c.now.Add(heirsRetry)
		delete(w.heirs, bond{e.From.Slot, e.To.PID, e.To.Slot})
	}
}

// workerLost is told that a message reached a worker without its descriptors.
func (c *Core) workerLost(w *worker, b wire.Lost) {
	switch b.Kind {
	case wire.KindHeir, wire.KindWard:
		// The other end hears of it by the end of the channel.
		w.heirsAt = c.now.Add(heirsRetry)
		for _, g := range c.gens {
			for _, o := range g.workers {
				maps.DeleteFunc(o.heirs, func(b bond, _ bool) bool { return o == w || b.pid == w.pid })
			}
		}
		c.log.Warn().Int("worker_pid", w.pid).Msg("a worker had no descriptor for a channel for handover; it is tried again")
	case wire.KindLend, wire.KindStart:
		c.workerFailed(w, b.Kind.String()+": "+b.Error)
	}
}

// seats returns the loops of a generation's workers that are in a state and alive.
func (g *generation) seats(st state) []seat {
	var all []seat
	for _, w := range g.workers {
		if w.state != st || !w.running {
			continue
		}
		for _, slot := range w.slots {
			all = append(all, seat{w, slot})
		}
	}
	return all
}

// heirsOf returns the heirs of loop i of n: each loop has at least one, each heir
// too, and the load is as even as it was.
func heirsOf(i, n int, heirs []seat) []seat {
	if len(heirs) == 0 {
		return nil
	}
	if len(heirs) <= n {
		return heirs[i%len(heirs):][:1]
	}
	var own []seat
	for j := i; j < len(heirs); j += n {
		own = append(own, heirs[j])
	}
	return own
}
