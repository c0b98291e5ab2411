package lifecycle

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/control"
	"reuseportd/internal/sandbox"
	"reuseportd/internal/shortage"
	"reuseportd/internal/wire"
)

const (
	// stableAfter is how long a worker must have lived for its death to count as
	// the first one.
	stableAfter = 10 * time.Second
	// firstBackoff is doubled for each further death, up to maxBackoff. The first
	// replacement is started at once.
	firstBackoff = 100 * time.Millisecond
	maxBackoff   = 30 * time.Second
	// lastWords is how long a hung worker has to write its stacks.
	lastWords = 500 * time.Millisecond
	// drainGrace is how long after its own deadline a draining worker is killed.
	drainGrace = 5 * time.Second
)

// spawn starts a process for a worker that has none, when what that takes is prepared.
func (c *Core) spawn(w *worker) {
	e := NewErrand(fmt.Sprintf("worker %d of generation %d", w.index, w.gen.id), "opening the roots, for a worker", c.now)
	e.While(func() bool {
		return w.opening == e && w.state == backoff && (w.gen.state == starting || w.gen.state == serving)
	})
	w.opening = e
	e.then = func(value any, err error) {
		prepared, _ := value.(*sandbox.Confinement)
		if !e.wanted() {
			prepared.Close()
			return
		}
		w.opening = nil
		if err == nil {
			err = c.startProcess(w, prepared)
		}
		if err != nil {
			c.startFailed(w, err)
		}
	}
	c.do(Prepare{e, w.gen.conf})
}

// startFailed is told why a worker has no process. Before the cut-over that is the end of its
// generation; later it is tried again.
func (c *Core) startFailed(w *worker, err error) {
	err = shortage.Explain(fmt.Errorf("start worker %d: %w", w.index, err))
	if w.gen.state == starting {
		c.fail(err)
		return
	}
	w.lastErr = err.Error()
	w.retryAt = c.now.Add(min(firstBackoff<<min(w.crashes, 16), maxBackoff))
	c.log.Error().Err(err).Time("retry_at", w.retryAt).Msg("can't replace a worker")
}

// startProcess starts a worker's process.
func (c *Core) startProcess(w *worker, prepared *sandbox.Confinement) error {
	set, err := c.materialsOf(w)
	if err != nil {
		prepared.Close()
		return err
	}
	if set != nil {
		w.materials = set.Number
	}
	c.do(Spawn{
		ID: w.id(), Slots: w.slots, Page: w.page, Share: w.share, Conf: w.gen.conf, Load: w.gen.load, Materials: set, Prepared: prepared,
	})
	w.sharesNot, w.running, w.pid = false, true, 0
	w.leases, w.waiting, w.heirs = make(map[lease]bool), make(map[uint64][]lease), make(map[bond]bool)
	w.pingedAt, w.pongAt, w.doomed = time.Time{}, c.now, time.Time{}
	w.enter(starting, c.now)
	return nil
}

// spawned is told whether a worker has a process.
func (c *Core) spawned(w *worker, s Spawned) {
	w.pid, w.kept = s.PID, s.Sandbox
	if s.Err == nil {
		return
	}
	w.running, w.leases, w.waiting = false, nil, nil
	if w.gen.state != starting && w.gen.state != serving {
		w.enter(gone, c.now)
		c.forgetGone()
		return
	}
	w.enter(backoff, c.now)
	c.startFailed(w, s.Err)
}

// tell sends a message. A worker that takes none is as good as dead.
func (c *Core) tell(w *worker, kind wire.Kind, body any) {
	if w.running {
		c.do(Send{w.id(), kind, body})
	}
}

// kill ends a worker's process now; exited is called in due course.
func (c *Core) kill(w *worker, why string) {
	if !w.running || !w.doomed.IsZero() {
		return
	}
	w.lastErr, w.doomed = why, c.now
	c.do(Kill{w.id(), unix.SIGKILL})
}

// workerFailed is told why a worker can't do its work. Before the cut-over that
// is the end of its generation, later that of its process.
func (c *Core) workerFailed(w *worker, text string) {
	w.lastErr = text
	if g := w.gen; c.change != nil && g == c.change.gen && c.change.receipt == nil {
		c.fail(fmt.Errorf("worker %d (pid %d): %s", w.index, w.pid, text))
		return
	}
	c.log.Error().Int("worker", w.index).Int("worker_pid", w.pid).Str("error", text).Msg("a worker has failed")
	c.kill(w, text)
}

// workerExited is told that a worker's process is dead.
func (c *Core) workerExited(w *worker, status string) {
	g := w.gen
	killed := !w.doomed.IsZero()
	began := c.now // the trouble
	if killed {
		began = w.pongAt
	}
	c.account(w.page, len(w.slots), w.index, status)
	c.do(Release{w.id()})
	w.running, w.pid, w.leases, w.waiting = false, 0, nil, nil
	switch {
	case g.state == serving:
		c.log.Error().Int("worker", w.index).Ints("slots", w.slots).Str("status", status).
			Str("reason", w.lastErr).Msg("a worker has died and is replaced; its sockets were kept")
		c.respawn(w)
		c.judge(g, began)
	case c.change != nil && g == c.change.gen && g.state != failed && g.state != draining:
		w.enter(gone, c.now)
		if w.lastErr != "" && killed {
			status += "; " + w.lastErr
		}
		c.fail(fmt.Errorf("worker %d died before the cut-over: %s", w.index, status))
	default:
		w.enter(gone, c.now)
		c.forgetGone()
	}
	c.reconcile()
	c.finishIfWithdrawn()
	c.retireStep()
}

// account keeps a dead worker's counts, by its pages. What it had open when it crashed is lost
// and counted so.
func (c *Core) account(page, loops, index int, status string) {
	counts := c.ledger.Sum(page, loops)
	if counts.Open > 0 {
		c.log.Error().Int("worker", index).Uint64("connections", counts.Open).Str("status", status).
			Msg("connections ended with their worker")
	}
	for i := range loops {
		p := c.ledger.Page(page + i) // whose writer is dead
		p.Cut += p.Open
		p.Closed += p.Open
		p.Open, p.UpstreamOpen = 0, 0
	}
	c.board.ClearRows(page, loops)
	c.clients.ClearRows(page, loops)
}

// respawn replaces a dead worker: at once the first time, later and later when
// it keeps dying.
func (c *Core) respawn(w *worker) {
	if c.now.Sub(w.since) > stableAfter {
		w.crashes = 0
	}
	w.crashes++
	w.restarts++
	w.enter(backoff, c.now)
	w.retryAt = c.now
	if w.crashes > 1 {
		w.retryAt = c.now.Add(min(firstBackoff<<min(w.crashes-2, 16), maxBackoff))
	}
	c.retry(w)
}

// retry starts a worker whose back-off is over.
func (c *Core) retry(w *worker) {
	if w.opening == nil && !w.retryAt.After(c.now) {
		c.spawn(w)
	}
}

// drain tells a generation to finish what it has. Its leases are withdrawn by
// reconcile, each when somebody else has the shard.
func (c *Core) drain(g *generation) {
	timeout := g.conf.DrainTimeout
	if ch := c.change; ch != nil && ch.gen != nil && ch.gen != g {
		timeout = ch.gen.conf.DrainTimeout
	}
	g.enter(draining, c.now)
	g.deadline = c.now.Add(timeout)
	g.base = c.sum(g)
	for _, w := range g.workers {
		switch {
		case !w.running:
			w.enter(gone, c.now)
		case w.state == starting: // a replacement that never served
			c.kill(w, "its generation drains")
		default:
			c.drainWorker(w)
		}
	}
	c.forgetGone()
}

// withoutHeir returns the addresses of a generation whose service ends with it.
func (c *Core) withoutHeir(g *generation) []string {
	heir := c.serving()
	if ch := c.change; ch != nil && ch.gen != nil && ch.gen != g {
		heir = ch.gen
	}
	var gone []string
	for i := range g.conf.Listeners {
		l := &g.conf.Listeners[i]
		if heir == nil || heir == g {
			continue // all of it ends
		}
		if next := heir.listener(l.Key()); next == nil || next.Service() != l.Service() {
			gone = append(gone, l.Key())
		}
	}
	return gone
}

// endOldest ends the oldest draining generations beyond the bound.
func (c *Core) endOldest(bound int) {
	var old []*generation
	for _, g := range c.gens {
		if g.state == draining && g.deadline.After(c.now) {
			old = append(old, g)
		}
	}
	for _, g := range old[:max(0, len(old)-bound)] {
		c.log.Warn().Uint64("generation", g.id).Int("max_draining", bound).Uint64("connections", c.sum(g).Open).
			Msg("too many generations drain: the oldest is ended, what it has open is cut")
		g.deadline = c.now
		for _, w := range g.workers {
			if w.state == draining {
				c.tell(w, wire.KindDrain, wire.Drain{TimeoutMS: 0})
			}
		}
	}
}

// drainAgain tells the workers of a draining generation so: the killed master had written
// it down, and may not have come to say it.
func (c *Core) drainAgain(g *generation) {
	if g.state != draining {
		return
	}
	for _, w := range g.workers {
		if w.running {
			c.drainWorker(w)
		}
	}
}

// workerBye is told why a worker leaves, and what became of its connections.
func (c *Core) workerBye(w *worker, b wire.Bye) {
	w.lastErr = b.Reason
	if b.HandedOver.After(w.gen.handedOver) && !b.HandedOver.After(c.now) {
		w.gen.handedOver = b.HandedOver
	}
	if b.Stayed != "" && w.gen.stayed == "" {
		w.gen.stayed = Brief(b.Stayed)
	}
}

func (c *Core) drainWorker(w *worker) {
	w.enter(draining, c.now)
	left := max(0, w.gen.deadline.Sub(c.now))
	c.tell(w, wire.KindDrain, wire.Drain{
		TimeoutMS: left.Milliseconds(), Heirs: !c.stop, Gone: c.withoutHeir(w.gen),
	})
}

// bury ends a generation that has no process left.
func (c *Core) bury(g *generation) {
	r := g.receipt
	if r == nil {
		r = new(control.Receipt)
	}
	c.count(g, r)
	r.Drained, r.DrainedMS = true, milliseconds(c.now.Sub(r.CutOver))
	g.enter(gone, c.now)
	c.do(Forget{g.id})
	if g.load != nil {
		_ = g.load.Close() // a group that it steers keeps what it needs
	}
	c.log.Info().Uint64("generation", g.id).Uint64("finished", r.Finished).
		Uint64("handed_over", r.HandedOver).Uint64("cut", r.Cut).Msg("generation gone")
	c.do(Keep{c.receipts})
	c.tellDrained()
}

// count brings a receipt up to date with what has become of a generation's
// connections since it began to drain.
func (c *Core) count(g *generation, r *control.Receipt) {
	sum := c.sum(g)
	r.Finished, r.HandedOver, r.Cut = sum.Finished-g.base.Finished, sum.HandedOver-g.base.HandedOver, sum.Cut-g.base.Cut
	if r.Stayed = sum.Stayed - g.base.Stayed; r.Stayed > 0 {
		r.StayedWhy = g.stayed
	}
	if !g.handedOver.IsZero() {
		r.HandoverMS = milliseconds(g.handedOver.Sub(r.CutOver))
	}
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// forgetGone drops the generations that have no process left.
func (c *Core) forgetGone() {
	var kept []*generation // a new slice: callers may be ranging over the old one
	for _, g := range c.gens {
		alive := false
		for _, w := range g.workers {
			alive = alive || w.running
		}
		if alive || (g.state != draining && g.state != failed) {
			kept = append(kept, g)
			continue
		}
		c.bury(g)
	}
	c.gens = kept
	c.sweep()
}
