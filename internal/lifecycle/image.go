package lifecycle

import (
	"maps"
	"slices"
	"time"

	"github.com/rs/zerolog"

	"reuseportd/internal/control"
	"reuseportd/internal/custody"
	"reuseportd/internal/shard"
	"reuseportd/internal/stats"
	"reuseportd/internal/upstream"
	"reuseportd/internal/wire"
)

// What goes from a master to the next one, in custody or by the record, is copied out of the core, and into the next one's.

// Generation is one that is not gone.
type Generation struct {
	custody.Generation             // Conf is the whole one
	Load               *shard.Load // nil when nothing is steered by load
	Unsteered          error       // why, if something should be
	Workers            []custody.Worker
	// Vacant are the places whose processes have ended while there was no master.
	Vacant []custody.Worker
}

// Sockets are those of one address.
type Sockets struct {
	*shard.Group
	Retiring *int // the first of those that are being retired, nil if none is
}

// Generations returns those that are not gone, oldest first, and those of their workers that are not. Leases has the rest of a
// worker.
func (c *Core) Generations() []Generation {
	var all []Generation
	for _, g := range c.gens {
		out := Generation{Load: g.load, Unsteered: g.unsteered, Generation: custody.Generation{
			ID: g.id, State: string(g.state), Since: g.since, Deadline: g.deadline, Base: g.base, HandedOver: g.handedOver, Conf: g.conf,
		}}
		for _, w := range g.workers {
			out.Workers = append(out.Workers, custody.Worker{
				Generation: g.id, Index: w.index, Slots: w.slots, PID: w.pid, Page: w.page,
				State: string(w.state), Since: w.since, Restarts: w.restarts, Sandbox: w.kept,
			})
		}
		all = append(all, out)
	}
	return all
}

// Leases returns what a worker was lent and not withdrawn, and what of it waits for its word, by message.
func (c *Core) Leases(id ID) (all []custody.Lease, waiting map[uint64][]wire.Lease) {
	waiting = make(map[uint64][]wire.Lease)
	w := c.worker(id)
	if w == nil {
		return nil, waiting
	}
	for le, acked := range w.leases {
		all = append(all, custody.Lease{Lease: le.wire(), Acknowledged: acked})
	}
	for seq, les := range w.waiting {
		for _, le := range les {
			waiting[seq] = append(waiting[seq], le.wire())
		}
	}
	return all, waiting
}

// Sockets returns all sockets, by address.
func (c *Core) Sockets() []Sockets {
	var all []Sockets
	for _, key := range slices.Sorted(maps.Keys(c.groups)) {
		g := c.groups[key]
		s := Sockets{Group: g.Group}
		if g.retiring != nil {
			s.Retiring = &g.retiring.from
		}
		all = append(all, s)
	}
	return all
}

// Shard returns the descriptor of a shard, -1 if there is no such one.
func (c *Core) Shard(key string, index int) int {
	if g := c.groups[key]; g != nil && index < g.Len() {
		return g.FD(index)
	}
	return -1
}

// HasAddress reports whether there are sockets of an address.
func (c *Core) HasAddress(key string) bool { return c.groups[key] != nil }

// Numbers returns what belongs to the service as a whole.
func (c *Core) Numbers() custody.End {
	end := custody.End{
		LastID: c.lastID, Seq: c.seq, Receipts: c.receipts, Refused: c.refused, Loaded: c.loaded,
		LedgerFormat: stats.Format, BoardFormat: upstream.Format,
		ClientsFormat: c.clients.Format(),
	}
	if c.change != nil {
		end.Action, end.Cause, end.Started = c.change.action, c.change.cause, c.change.started
	}
	return end
}

// TicketsHash returns the hash of the keys of tickets, "" if there are none.
func (c *Core) TicketsHash() string {
	if e := c.materials.Find(tickets); e != nil && e.Number > 0 {
		return e.SHA256
	}
	return ""
}

func (le lease) wire() wire.Lease { return wire.Lease{Key: le.key, Index: le.index, Slot: le.slot} }

func leaseOf(le wire.Lease) lease { return lease{le.Key, le.Index, le.Slot} }

// TakeSockets gives the core the sockets of an earlier master.
type TakeSockets struct {
	Sockets []Sockets
	// Numbers are the service's.
	Numbers custody.End
}

func (e TakeSockets) handle(c *Core) {
	for _, s := range e.Sockets {
		g := c.addGroup(s.Group)
		if s.Retiring != nil { // around which the earlier master steers
			g.retiring = newRetirement(g, *s.Retiring, c.now)
		}
	}
	c.lastID, c.seq, c.receipts = e.Numbers.LastID, e.Numbers.Seq, e.Numbers.Receipts
}

// Inherit makes an earlier master's generations the oldest ones of the core, and this master the only one. Those of a
// killed one may be at any point of what it had begun, which is gone on with.
type Inherit struct {
	Generations []Generation
	Sockets     []Sockets // brought by a killed one's workers
	Numbers     custody.End
	Killed      bool
}

func (e Inherit) handle(c *Core) {
	var gens []*generation
	for i := range e.Generations {
		gens = append(gens, c.restore(&e.Generations[i], e.Killed))
	}
	for _, s := range e.Sockets {
		if err := c.addGroup(s.Group).settle(gens, c.now); err != nil {
			c.log.Error().Err(err).Str("address", s.Key()).Msg("an address keeps something of what an earlier master had begun")
		}
	}
	if e.Killed {
		for i := range e.Generations {
			for _, w := range e.Generations[i].Vacant {
				c.account(w.Page, len(w.Slots), w.Index, "ended while there was no master")
			}
		}
	}
	c.lastID, c.seq = max(c.lastID, e.Numbers.LastID), max(c.seq, e.Numbers.Seq)
	c.refused, c.receipts, c.loaded = e.Numbers.Refused, e.Numbers.Receipts, e.Numbers.Loaded
	for _, g := range gens {
		g.receipt = c.replaced(g.id)
	}
	c.gens = append(gens, c.gens...)
	c.keeper = true
	if c.change != nil {
		c.change.fatal = false // from here on there is a generation to serve on with
	}
	c.forgetGone()
	c.sweep()
	if !e.Killed {
		return
	}
	for _, g := range gens {
		c.drainAgain(g)
	}
	c.settleGenerations(gens)
	if s := c.serving(); s != nil {
		c.steer(s)
	}
	c.reconcile()
}

// restore makes a generation of what an earlier master has said of it.
func (c *Core) restore(in *Generation, killed bool) *generation {
	g := &generation{
		id: in.ID, state: state(in.State), since: in.Since, deadline: in.Deadline, conf: in.Conf,
		base: in.Base, handedOver: in.HandedOver, load: in.Load, unsteered: in.Unsteered,
	}
	for _, b := range in.Workers {
		w := &worker{
			gen: g, index: b.Index, slots: b.Slots, page: b.Page, pid: b.PID, state: state(b.State), since: b.Since,
			restarts: b.Restarts, kept: b.Sandbox, running: state(b.State) != backoff, pongAt: c.now, heirs: make(map[bond]bool),
		}
		switch {
		case !w.running && killed:
			w.since, w.retryAt = c.now, c.now.Add(g.conf.StartTimeout) // a new generation is on its way
		case !w.running:
			w.pid, w.retryAt = 0, b.Since
		default:
			w.leases, w.waiting = make(map[lease]bool), make(map[uint64][]lease)
		}
		for _, le := range b.Leases {
			if w.running {
				w.leases[leaseOf(le.Lease)] = le.Acknowledged
			}
		}
		for seq, les := range b.Waiting {
			for _, le := range les {
				if w.running {
					w.waiting[seq] = append(w.waiting[seq], leaseOf(le))
				}
			}
		}
		g.workers = append(g.workers, w)
	}
	return g
}

// Backoff reports whether a worker that an earlier master tells of waits to be started again.
func Backoff(w *custody.Worker) bool { return state(w.State) == backoff }

// Adopted returns the state that a worker's or a generation's is taken for which a killed master has written down: it serves or
// drains.
func Adopted(written string) string {
	if state(written) == draining {
		return string(draining)
	}
	return string(serving)
}

// Vacant is the state of a place whose process has ended.
func Vacant() string { return string(backoff) }

// superseded answers everybody who waits: those who asked for the upgrade with
// its receipt, others with the advice to ask the next master.
func (c *Core) superseded(r *control.Receipt) {
	ch := c.change
	r.Cause, r.Started, r.Coalesced = ch.cause, ch.started, r.Coalesced+ch.merged
	r.ReadyMS = float64(c.now.Sub(ch.started).Microseconds()) / 1000
	waiting := ch.waiting
	for _, p := range c.pending {
		if p.action == ch.action && !p.single() {
			r.Coalesced += 1 + p.merged
			waiting = append(waiting, p.waiting...)
		}
	}
	for _, a := range waiting {
		answer := *r
		c.do(Tell{a.Tell, control.Response{Receipt: &answer}})
	}
	for _, d := range c.drained {
		c.do(Tell{d.Tell, control.Response{Error: control.ErrSuperseded}})
	}
	c.drained = nil
	for _, p := range c.pending {
		if p.action != ch.action || p.single() {
			c.refuse(p, control.ErrSuperseded)
		}
	}
}

// woken forgives the workers for what this master did not hear while it waited.
func (c *Core) woken() {
	for _, g := range c.gens {
		for _, w := range g.workers {
			if !w.pingedAt.IsZero() {
				w.pingedAt = c.now
			}
			if w.state == starting {
				w.since = c.now
			}
		}
	}
}

// Serving returns the generation that serves, 0 if none does, and its number of workers.
func (c *Core) Serving() (id uint64, workers int) {
	for _, g := range c.gens {
		if g.state == serving {
			return g.id, len(g.workers)
		}
	}
	return 0, 0
}

// Change describes the change in progress. Action is "" if there is none; next says that another master is to take over.
func (c *Core) Change() (action string, next bool) {
	if c.change == nil {
		return "", false
	}
	return c.change.action, c.change.upgrades()
}

// ComingTimeout returns the worker_timeout of the generation that is being brought up, 0 if none is.
func (c *Core) ComingTimeout() time.Duration {
	if c.change == nil || c.change.gen == nil {
		return 0
	}
	return c.change.gen.conf.WorkerTimeout
}

// ReloadsWaiting returns how many signals to reload were taken and not acted on.
func (c *Core) ReloadsWaiting() (n int) {
	for _, p := range c.pending {
		if p.action == "reload" && p.cause == CauseSignal {
			n++
		}
	}
	return n
}

// Receipts returns those of the latest changes, oldest first. They go on counting.
func (c *Core) Receipts() []*control.Receipt { return c.receipts }

// Doomed reports whether a worker is being ended, or is none any more.
func (c *Core) Doomed(id ID) bool {
	w := c.worker(id)
	return w == nil || !w.running || !w.doomed.IsZero()
}

// Starting reports whether a worker isn't ready yet.
func (c *Core) Starting(id ID) bool {
	w := c.worker(id)
	return w != nil && w.state == starting
}

// SetLog has the core write to another log.
func (c *Core) SetLog(log zerolog.Logger) { c.log = log }

// Now returns when the latest event was.
func (c *Core) Now() time.Time { return c.now }
