package handover

import "slices"

// Giver decides what a draining worker offers to which heir, and records what has been
// offered. T is a connection as its caller sees it.
//
// Invariant: a T that went into Offer comes out exactly once, of Answer, Unsent or
// Leave.
type Giver[T any] struct {
	heirs []*heir[T]
	seq   uint64
}

// heir is a serving worker that takes connections.
type heir[T any] struct {
	id         uint64
	generation uint64
	room       int // descriptors that it may still be offered
	full       bool
	offers     []offer[T] // without an answer, oldest first
}

type offer[T any] struct {
	seq   uint64
	items []T
}

// Join adds a worker of a generation, which has no room until it says so.
func (g *Giver[T]) Join(id, generation uint64) {
	g.heirs = append(g.heirs, &heir[T]{id: id, generation: generation})
}

func (g *Giver[T]) find(id uint64) *heir[T] {
	for _, h := range g.heirs {
		if h.id == id {
			return h
		}
	}
	return nil
}

// Grant records that an heir takes n more descriptors. 0 says that it is full, and takes
// none beyond those it has granted before.
func (g *Giver[T]) Grant(id uint64, n int) {
	if h := g.find(id); h != nil {
		h.room += n
		h.full = n == 0
	}
}

// latest reports whether an heir is of the newest generation: the others are draining
// themselves.
func (g *Giver[T]) latest(h *heir[T]) bool {
	return !slices.ContainsFunc(g.heirs, func(o *heir[T]) bool { return o.generation > h.generation })
}

// Pick chooses the heir for the next offer: the one with the most room. It returns n, the
// descriptors that may be offered, at most most, and subtracts them from the heir's room.
func (g *Giver[T]) Pick(most int) (id uint64, n int, ok bool) {
	var best *heir[T]
	for _, h := range g.heirs {
		if h.room > 0 && g.latest(h) && (best == nil || h.room > best.room) {
			best = h
		}
	}
	if best == nil {
		return 0, 0, false
	}
	n = min(best.room, most)
	best.room -= n
	return best.id, n, true
}

// Offer records that items are about to be offered. unused is how much of what Pick
// subtracted is not needed. ok is false if the heir has left meanwhile.
func (g *Giver[T]) Offer(id uint64, items []T, unused int) (seq uint64, ok bool) {
	h := g.find(id)
	if h == nil {
		return 0, false
	}
	h.room += max(unused, 0)
	if len(items) == 0 {
		return 0, true
	}
	g.seq++
	h.offers = append(h.offers, offer[T]{g.seq, items})
	return g.seq, true
}

// Unsent takes back an offer that could not be sent, and restores n of the heir's room.
func (g *Giver[T]) Unsent(id, seq uint64, n int) []T {
	_, kept := g.Answer(id, seq, true, nil)
	if h := g.find(id); h != nil {
		h.room += n
	}
	return kept
}

// Answer returns who owns what was offered: taken are the heir's, kept are the giver's
// again. A second answer to an offer is ignored. An heir answers in the order of the
// offers; with seq 0 it answers the oldest one, whose number it couldn't read.
func (g *Giver[T]) Answer(id, seq uint64, all bool, refused []int) (taken, kept []T) {
	h := g.find(id)
	if h == nil {
		return nil, nil
	}
	i := slices.IndexFunc(h.offers, func(o offer[T]) bool { return o.seq == seq || seq == 0 })
	if i < 0 {
		return nil, nil
	}
	items := h.offers[i].items
	h.offers = slices.Delete(h.offers, i, i+1)
	if all {
		return nil, items
	}
	if len(refused) == 0 {
		return items, nil
	}
	for i, it := range items {
		if slices.Contains(refused, i) {
			kept = append(kept, it)
		} else {
			taken = append(taken, it)
		}
	}
	return taken, kept
}

// Leave removes an heir, which is dead, and returns what it had not answered for: that is
// the giver's again.
func (g *Giver[T]) Leave(id uint64) (back []T) {
	h := g.find(id)
	if h == nil {
		return nil
	}
	for _, o := range h.offers {
		back = append(back, o.items...)
	}
	g.heirs = slices.DeleteFunc(g.heirs, func(o *heir[T]) bool { return o == h })
	return back
}

// Full reports whether there are heirs and none of them has room.
func (g *Giver[T]) Full() bool {
	some := false
	for _, h := range g.heirs {
		if !g.latest(h) {
			continue
		}
		if some = true; !h.full || h.room > 0 {
			return false
		}
	}
	return some
}
