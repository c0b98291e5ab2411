package lifecycle

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/wire"
)

// Stalled is how late a tick may come before the master takes itself, and not
// its workers, for the one that was asleep.
const Stalled = time.Second

// tick does what is due by the clock. It is called at least when Wait has passed.
func (c *Core) tick(late bool) {
	if c.now.Sub(c.dividedAt) >= divideEvery {
		c.divide()
	}
	if ch := c.change; ch != nil && ch.errand != nil && !late && !c.now.Before(ch.due) {
		c.fail(ch.errand.overdue(c.now))
	}
	for _, g := range c.gens {
		for _, w := range g.workers {
			switch {
			case w.opening != nil:
				c.watchOpening(w, late)
			case w.state == backoff && g.state == serving:
				c.retry(w)
			case !w.running:
			case !w.doomed.IsZero():
				if c.now.Sub(w.doomed) >= lastWords {
					c.do(Kill{w.id(), unix.SIGKILL})
				}
			case w.state == starting:
				c.watchStart(w)
			default:
				c.watch(w, late)
			}
		}
		if g.state == draining && c.now.Sub(g.deadline) > drainGrace {
			for _, w := range g.workers {
				c.kill(w, "drain_timeout has passed and it has not left")
			}
		}
	}
	if c.trial != nil && c.now.After(c.trial.until) && !c.suspect(c.trial) {
		c.log.Info().Uint64("generation", c.trial.gen.id).Msg("probation is over")
		c.endTrial()
	}
	c.introduceHeirs()
	c.finishIfWithdrawn()
	c.retireStep()
}

// suspect reports whether a worker may have begun to hang while on probation.
func (c *Core) suspect(t *trial) bool {
	for _, w := range t.gen.workers {
		if w.running && w.state == serving && !w.pingedAt.IsZero() && !w.pongAt.After(t.until) {
			return true
		}
	}
	return false
}

// watchStart gives up a worker that isn't ready in time.
func (c *Core) watchStart(w *worker) {
	limit := w.gen.conf.StartTimeout
	if c.now.Sub(w.since) < limit {
		return
	}
	c.workerFailed(w, fmt.Sprintf("not ready within start_timeout (%s)", limit))
}

// watchOpening gives up what is done before a worker's process is started.
func (c *Core) watchOpening(w *worker, late bool) {
	if e := w.opening; !late && c.now.Sub(e.began) >= w.gen.conf.StartTimeout {
		w.opening = nil
		c.startFailed(w, e.overdue(c.now))
	}
}

// watch pings a worker, and gives it up when it doesn't answer.
func (c *Core) watch(w *worker, late bool) {
	limit := w.gen.conf.WorkerTimeout
	switch {
	case limit == 0:
	case w.pingedAt.IsZero():
		if c.now.Sub(w.pongAt) >= pingEvery(limit) {
			w.pingSeq++
			w.pingedAt = c.now
			c.tell(w, wire.KindPing, wire.Ping{Seq: w.pingSeq})
		}
	case late:
		w.pingedAt = c.now // its answer may lie unread with us
	case c.now.Sub(w.pingedAt) >= limit:
		c.log.Error().Int("worker", w.index).Int("worker_pid", w.pid).Dur("worker_timeout", limit).
			Msg("a worker hangs: no answer to a ping; it is ended (stacks follow) and replaced")
		w.lastErr, w.doomed = fmt.Sprintf("no answer to a ping for %s", limit), c.now
		c.do(Kill{w.id(), unix.SIGABRT})
	}
}

func pingEvery(limit time.Duration) time.Duration { return min(limit/4, time.Second) }

// workerPong is told that all loops of a worker turn.
func (c *Core) workerPong(w *worker, b wire.Pong) {
	if b.Seq == w.pingSeq {
		w.pingedAt, w.pongAt = time.Time{}, c.now
	}
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// Wait returns how long nothing is due.
func (c *Core) Wait() time.Duration {
	due := c.now.Add(time.Minute)
	if c.group.Bounded {
		due = c.dividedAt.Add(divideEvery)
	}
	sooner := func(t time.Time) {
		if t.Before(due) {
			due = t
		}
	}
	if c.change != nil && c.change.errand != nil {
		sooner(c.change.due)
	}
	if c.change != nil && c.change.receipt != nil {
		sooner(c.change.gen.since.Add(letGo))
	}
	if c.trial != nil {
		sooner(maxTime(c.trial.until, c.now).Add(10 * time.Millisecond))
	}
	for _, g := range c.groups {
		if g.retiring != nil {
			sooner(c.now.Add(retirePoll))
		}
	}
	for _, g := range c.gens {
		if g.state == draining {
			sooner(g.deadline.Add(drainGrace + time.Millisecond))
		}
		for _, w := range g.workers {
			limit := g.conf.WorkerTimeout
			switch {
			case w.opening != nil:
				sooner(w.opening.began.Add(g.conf.StartTimeout))
			case w.state == backoff && g.state == serving:
				sooner(w.retryAt)
			case !w.running:
			case !w.doomed.IsZero():
				sooner(w.doomed.Add(lastWords))
			case w.state == starting:
				sooner(w.since.Add(g.conf.StartTimeout))
			case limit == 0:
			case w.pingedAt.IsZero():
				sooner(w.pongAt.Add(pingEvery(limit)))
			default:
				sooner(w.pingedAt.Add(limit))
			}
		}
	}
	return max(time.Millisecond, due.Sub(c.now))
}
