package stats

import (
	"fmt"
	"sync/atomic"

	"reuseportd/internal/eventloop"
)

// Reserve gives n consecutive free pages to a generation, with counters set to zero, and
// returns the first. It returns an error, and changes nothing, if there are none. A
// master that is killed meanwhile has reserved all of them or none.
//
// Pages for which taken is true, by the master's own records, are never given. If no
// others are free, a worker may have overwritten the table of entries: then all pages
// that are not taken count as free, spoilt is true, and what was counted there is lost.
// taken may be nil.
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
	l.store(&h.reserved, inc) // now they are reserved
	return first, spoilt, nil
}

// Fold adds the counters of n pages from the page first on to the past and frees the
// pages. Nobody may write to them any more. Open is left out, since nothing is open on a
// page without a loop. Pages that are already free add nothing. It panics, as a slice
// does, for pages that the ledger doesn't have. A master that is killed meanwhile has
// folded all of them or none.
func (l *Ledger) Fold(first, n int) {
	h := l.head()
	_ = h.entries[first : first+n]
	l.settle()
	var sum words
	for i := first; i < first+n; i++ {
		if !h.used(i) {
			continue
		}
		// All words, so that an older master doesn't lose what a newer release counts.
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

// add writes a new past that includes sum and names the pages that sum is from, and so
// frees them. The pages that the current past names must have been settled.
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
	l.store(&h.sequence, seq+1) // now it is valid
}

// settle clears the entries of pages that nobody uses: those that were added to past, and
// those of a reservation that a killed master has left incomplete. Every change begins
// with it, since the change overwrites the names in past, or reuses the incarnation, by
// which those entries are known to be invalid. So recovery after a kill is the ordinary
// path.
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
