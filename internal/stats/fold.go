package stats

import (
	"fmt"
	"sync/atomic"

	"reuseportd/internal/eventloop"
)

// Reserve gives n free pages in a row to a generation, counters zeroed, and
// returns the first. It fails, and changes nothing, when there are none. A
// master that is killed meanwhile has reserved all of them or none.
//
// Pages that are taken, as the master knows, are never given. If none are free, it may be
// that a worker has spoilt the table of entries, which is in memory that it can write
// to: then those that are not taken are free, spoilt is true, and what was
// counted there is lost. taken may be nil.
func (l *Ledger) Reserve(generation uint64, n int, taken func(page int) bool) (first int, spoilt bool, err error) {
	if n < 1 || n > MaxPages {
		return 0, false, fmt.Errorf("statistics: reserve %d pages for generation %d: want 1 to %d", n, generation, MaxPages)
	}
	l.settle()
	h := l.head()
	first, ok := room(n, func(i int) bool { return h.used(i) || taken != nil && taken(i) })
	if !ok && taken != nil {
		first, ok = room(n, taken)
		spoilt = true
	}
	if !ok {
		return 0, spoilt, fmt.Errorf("statistics: reserve %d pages for generation %d: not that many of %d are free in a row",
			n, generation, MaxPages)
	}
	inc := atomic.LoadUint64(&h.reserved) + 1
	for i := first; i < first+n; i++ {
		clear(l.page(i).words[:])
		l.store(&l.page(i).header, header)
		l.store(&h.entries[i].generation, generation)
		l.store(&h.entries[i].incarnation, inc)
	}
	l.store(&h.reserved, inc) // now they are
	return first, spoilt, nil
}

// Fold adds the counters of n pages from the page first on to the past and
// frees the pages. Nobody may write to them any more. What is open is left out: nothing
// is open on a page without a loop. Pages that are free already add nothing; it
// panics, as a slice does, for pages that the ledger doesn't have. A master
// that is killed meanwhile has folded all of them or none.
func (l *Ledger) Fold(first, n int) {
	h := l.head()
	_ = h.entries[first : first+n]
	l.settle()
	var sum words
	for i := first; i < first+n; i++ {
		if !h.used(i) {
			continue
		}
		// All words, so that what a newer release counts isn't lost with an older master.
		for w := range sum {
			sum[w] += atomic.LoadUint64(&l.page(i).words[w])
		}
	}
	l.add(&sum, past{first: uint64(first), n: uint64(n), last: atomic.LoadUint64(&h.reserved)})
}

// Add adds counters to the past, except for Open. A master that is killed
// meanwhile has added all of them or none.
func (l *Ledger) Add(c eventloop.Counters) {
	l.settle()
	var sum words
	*sum.counters() = c
	l.add(&sum, past{})
}

// add writes the past anew, with sum in it and with the names of the pages that
// sum is from, and so frees them. Those that the present one names must be settled.
func (l *Ledger) add(sum *words, pages past) {
	h := l.head()
	sum[open], sum[upstreamOpen] = 0, 0
	seq := atomic.LoadUint64(&h.sequence)
	from, to := &h.past[seq%2], &h.past[(seq+1)%2]
	for w := range sum {
		l.store(&to.words[w], from.words[w]+sum[w])
	}
	l.store(&to.first, pages.first)
	l.store(&to.n, pages.n)
	l.store(&to.last, pages.last)
	l.store(&h.sequence, seq+1) // now it counts
}

// settle clears the entries of pages that nobody uses: those that past has taken
// in, and those of a reservation that a killed master left incomplete. Every
// change begins with it, since it takes past's names or the reservation's
// incarnation, and what they keep out would be back. So the way after a kill is
// the ordinary one.
func (l *Ledger) settle() {
	h := l.head()
	for i := range h.entries {
		if e := &h.entries[i]; atomic.LoadUint64(&e.incarnation) != 0 && !h.used(i) {
			l.store(&e.incarnation, 0)
		}
	}
}

// store makes one step of a change. Atomic stores keep their order, so a reader
// in another process, and the next master, see all those before it.
func (l *Ledger) store(at *uint64, v uint64) {
	atomic.StoreUint64(at, v)
	if l.stored != nil {
		l.stored()
	}
}
