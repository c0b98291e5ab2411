package lifecycle

import (
	"maps"
	"slices"

	"reuseportd/internal/config"
	"reuseportd/internal/stats"
	"reuseportd/internal/wire"
)

// reconcile brings the leases into line with who ought to serve what. It is
// called after every event that changes that, be it a cut-over, a crash, a
// replacement or a retirement: none of them is a special case here.
func (c *Core) reconcile() {
	desired := c.desired()
	for _, w := range c.live() {
		var add []lease
		for _, le := range desired[w] {
			if _, lent := w.leases[le]; !lent {
				add = append(add, le)
			}
		}
		c.lend(w, add, desired)
	}
	c.withdrawSpare(desired)
	c.settleLocks()
	c.markServed()
	c.introduceHeirs()
}

// settleLocks frees the mutexes that dead workers hold, and those of addresses that
// are gone.
func (c *Core) settleLocks() {
	if !c.keeper {
		return
	}
	live := make(map[int]bool)
	for _, g := range c.gens {
		for _, w := range g.workers {
			if w.running {
				live[w.pid] = true
			}
		}
	}
	c.ledger.KeepLocks(slices.Collect(maps.Keys(c.groups)), func(pid int) bool { return live[pid] })
}

// live returns the workers that have a process and may hold leases.
func (c *Core) live() []*worker {
	var ws []*worker
	for _, g := range c.gens {
		for _, w := range g.workers {
			if w.serves() {
				ws = append(ws, w)
			}
		}
	}
	return ws
}

// desired computes who ought to hold which lease.
func (c *Core) desired() map[*worker][]lease {
	d := make(map[*worker][]lease)
	for _, key := range slices.Sorted(maps.Keys(c.groups)) {
		g := c.groups[key]
		home := c.home(key)
		if home == nil {
			continue // the queue waits in custody
		}
		assign(g, home, d)
	}
	return d
}

// home returns the generation whose workers serve an address: the one that
// serves, if it knows the address and has a worker alive; else the newest that
// does. For an address that was removed that is a draining one.
func (c *Core) home(key string) *generation {
	able := func(g *generation) bool {
		return g.knows(key) && slices.ContainsFunc(g.workers, (*worker).serves)
	}
	if s := c.serving(); s != nil && able(s) {
		return s
	}
	for _, g := range slices.Backward(c.gens) {
		if able(g) {
			return g
		}
	}
	return nil
}

func (g *generation) knows(key string) bool { return g.listener(key) != nil }

// listener returns the listener that the generation has at an address, or nil.
func (g *generation) listener(key string) *config.Listener {
	for i := range g.conf.Listeners {
		if l := &g.conf.Listeners[i]; l.Key() == key {
			return l
		}
	}
	return nil
}

// assign distributes the listening shards of a group over the slots that are
// served in its home: slot i has shard i, again from the first where there are
// fewer shards than slots, and a shard that none of its own slots serves (it retires,
// or its worker has just died) goes to another's slot.
func assign(g *group, home *generation, d map[*worker][]lease) {
	owner := make(map[int]*worker)
	var slots []int
	for _, w := range home.workers {
		if w.serves() {
			for _, s := range w.slots {
				owner[s] = w
				slots = append(slots, s)
			}
		}
	}
	covered := make(map[int]bool)
	n := min(g.Listening(), want(home.listener(g.Key()), home.conf))
	if g.retiring != nil && g.retiring.from == 0 {
		n = 0 // all of it goes; the rest below still finds somebody for each
	}
	for _, s := range slots {
		if n == 0 {
			break
		}
		i := s % n
		if g.closing(i) {
			continue
		}
		covered[i] = true
		d[owner[s]] = append(d[owner[s]], lease{g.Key(), i, s})
	}
	for i := range g.Listening() {
		if covered[i] || g.closing(i) {
			continue
		}
		s := slots[i%len(slots)]
		d[owner[s]] = append(d[owner[s]], lease{g.Key(), i, s})
	}
}

// maxLeases bounds the leases of one message: a descriptor comes with each.
const maxLeases = wire.MaxFDs

// lend sends leases that w doesn't hold yet.
func (c *Core) lend(w *worker, add []lease, desired map[*worker][]lease) {
	for batch := range slices.Chunk(add, maxLeases) {
		c.seq++
		msg := wire.Lend{Seq: c.seq}
		for _, le := range batch {
			msg.Leases = append(msg.Leases, c.offer(w, le, desired))
			w.leases[le] = false
		}
		w.waiting[c.seq] = batch
		c.do(Lend{w.id(), msg})
	}
}

// offer says how a worker is to watch a shard that others may watch too.
func (c *Core) offer(w *worker, le lease, desired map[*worker][]lease) wire.Lease {
	out := wire.Lease{Key: le.key, Index: le.index, Slot: le.slot, Unordered: c.groups[le.key].Unordered()}
	l, slots := w.gen.listener(le.key), w.gen.conf.Slots()
	switch l.Accept {
	case config.AcceptShared: // wakes all
	case config.AcceptMutex:
		out.Exclusive = true
		if i, ok := c.ledger.Mutex(le.key); ok {
			out.Lock = i + 1
		} else {
			c.log.Warn().Str("address", le.key).Int("mutexes", stats.MaxLocks).
				Msg("no mutex is left for this listener: it is accepted from as with accept: exclusive")
		}
	default:
		// A slot that comes later, with a replaced worker, counts too.
		out.Exclusive = le.index+l.Sockets(slots) < slots || shared(le, desired)
	}
	return out
}

// shared reports whether more than one loop is to accept from a shard.
func shared(le lease, desired map[*worker][]lease) bool {
	n := 0
	for _, les := range desired {
		for _, other := range les {
			if other.key == le.key && other.index == le.index {
				n++
			}
		}
	}
	return n > 1
}

// withdrawSpare takes back the leases that nobody ought to hold, each as soon as
// its shard has another loop or is to be closed. During an activation
// everything stays: the old generation accepts until all of the new one does.
func (c *Core) withdrawSpare(desired map[*worker][]lease) {
	if s := c.serving(); s != nil && s.state == activating {
		return
	}
	acknowledged := make(map[lease]bool) // slot is 0
	keep := make(map[*worker]map[lease]bool)
	for w, les := range desired {
		keep[w] = make(map[lease]bool)
		for _, le := range les {
			keep[w][le] = true
			if w.leases[le] {
				acknowledged[lease{le.key, le.index, 0}] = true
			}
		}
	}
	for _, w := range c.live() {
		var spare []lease
		for le, acked := range w.leases {
			safe := acknowledged[lease{le.key, le.index, 0}] || c.groups[le.key].closing(le.index)
			if acked && safe && !keep[w][le] {
				spare = append(spare, le)
			}
		}
		c.withdraw(w, spare)
	}
}

// withdraw takes leases back. They count as held until the worker says that its
// descriptors are closed.
func (c *Core) withdraw(w *worker, spare []lease) {
	if len(spare) == 0 {
		return
	}
	c.seq++
	msg := wire.Withdraw{Seq: c.seq}
	for _, le := range spare {
		msg.Leases = append(msg.Leases, wire.Lease{Key: le.key, Index: le.index, Slot: le.slot})
		w.leases[le] = false // so that it is not asked for twice
	}
	w.waiting[c.seq] = spare
	c.tell(w, wire.KindWithdraw, msg)
}

// workerLent is told that leases are registered, or why they are not.
func (c *Core) workerLent(w *worker, b wire.Lent) {
	les := w.waiting[b.Seq]
	delete(w.waiting, b.Seq)
	if b.Error != "" {
		c.workerFailed(w, "accept from its shards: "+b.Error)
		return
	}
	for _, le := range les {
		w.leases[le] = true
	}
	c.cutOverIfAcknowledged()
	c.reconcile()
}

// workerWithdrawn is told that leases have ended.
func (c *Core) workerWithdrawn(w *worker, b wire.Withdrawn) {
	for _, le := range w.waiting[b.Seq] {
		delete(w.leases, le)
	}
	delete(w.waiting, b.Seq)
	c.reconcile() // a lease may be wanted again by now
	c.finishIfWithdrawn()
	c.retireStep()
}
