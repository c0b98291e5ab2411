package stats

import (
	"fmt"
	"slices"
	"sync/atomic"
	"unsafe"

	"reuseportd/internal/eventloop"
)

// Ledger is the counters of the whole service since it began: a page for each loop that
// runs, and the past, which is the sum of those that ran. As a region it has MaxPages
// pages. The sum of the past and all pages in use never decreases, whichever process dies
// when: the next master finds each count exactly once.
//
// Any number of processes may hold a ledger and read it. Invariant: only one
// at a time, the master, calls Reserve, Fold and Add, from one goroutine. That
// goroutine must also be the one that adds pages to the past for a report, or a
// page may move between the two reads.
type Ledger struct {
	*Region
	// stored is called after each store to the head, where tests kill the
	// master. It is nil otherwise.
	stored func()
}

// Run is N pages from the page First on.
type Run struct{ First, N int }

// NewLedger makes a ledger with all counters zero and all pages free. Its size is sealed;
// its memory is allocated as pages are used, see memfd_create(2).
func NewLedger() (*Ledger, error) {
	fd, err := create(headPages + MaxPages)
	if err != nil {
		return nil, err
	}
	l, err := mapLedger(fd)
	if err != nil {
		return nil, err
	}
	l.head().header, l.head().counters = ledgerHeader, header
	return l, nil
}

// OpenLedger maps the ledger of a received descriptor, which it takes over, and closes if
// it fails. It refuses memory whose size is not sealed or not that of a ledger, and a
// ledger whose words mean something else in this release. It changes nothing, since
// another master may be using the ledger.
func OpenLedger(fd int) (*Ledger, error) {
	if err := checkLedger(fd); err != nil {
		return nil, refuse(fd, err)
	}
	return mapLedger(fd)
}

// AdoptLedger is like OpenLedger for memory whose Format is known from a trusted source,
// so that nothing in the memory can prevent its use. It corrects the header. If format is
// empty, as from an older release, the header is used.
func AdoptLedger(fd int, format string) (*Ledger, error) {
	if format == "" {
		return OpenLedger(fd)
	}
	err := checkSize(fd)
	if err == nil && format != Format {
		err = fmt.Errorf("ledger: format %q, this release knows %q", format, Format)
	}
	if err != nil {
		return nil, refuse(fd, err)
	}
	l, err := mapLedger(fd)
	if err == nil {
		l.head().header, l.head().counters = ledgerHeader, header
	}
	return l, err
}

func mapLedger(fd int) (*Ledger, error) {
	r, err := mapped(fd, 0, headPages+MaxPages)
	if err != nil {
		return nil, err
	}
	r.mem = r.mem[headPages*PageSize:]
	return &Ledger{Region: r}, nil
}

// Past returns what was counted on pages that are free again. Its Open is zero. Any
// process may call it at any time.
func (l *Ledger) Past() eventloop.Counters {
	h := l.head()
	for tries := 0; ; tries++ {
		seq := atomic.LoadUint64(&h.sequence)
		c := h.past[seq%2].words.read()
		// The change after the next one overwrites what was just read. Only a worker that
		// tampers with the memory changes it so often.
		if atomic.LoadUint64(&h.sequence) == seq || tries == maxTries {
			return c
		}
	}
}

// maxTries bounds how often Past is read again.
const maxTries = 10_000

// Generations returns the generations that have pages, in order.
func (l *Ledger) Generations() []uint64 {
	h := l.head()
	var all []uint64
	for i := range h.entries {
		if h.used(i) {
			all = append(all, atomic.LoadUint64(&h.entries[i].generation))
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Used returns the pages of a generation in order, one run for each reservation. If a
// part of a reservation was folded, the rest may be several runs.
func (l *Ledger) Used(generation uint64) []Run {
	h := l.head()
	var runs []Run
	var last uint64 // incarnation of the previous page, 0 if it belongs to another generation
	for i := range h.entries {
		e := &h.entries[i]
		if !h.used(i) || atomic.LoadUint64(&e.generation) != generation {
			last = 0
			continue
		}
		inc := atomic.LoadUint64(&e.incarnation) // read once: a worker may change it
		if inc != last || len(runs) == 0 {
			runs = append(runs, Run{First: i})
		}
		runs[len(runs)-1].N++
		last = inc
	}
	return runs
}

// Sum adds up n pages from first on.
func (l *Ledger) Sum(first, n int) eventloop.Counters {
	var sum eventloop.Counters
	for i := range n {
		c := l.Read(first + i)
		sum.Add(&c)
	}
	return sum
}

// Total adds up all that was ever counted. It is exact only if no Fold happens meanwhile.
func (l *Ledger) Total() eventloop.Counters {
	sum := l.Past()
	h := l.head()
	for i := range h.entries {
		if h.used(i) {
			c := l.Read(i)
			sum.Add(&c)
		}
	}
	return sum
}

// Left returns the pages of generations for which keep is false, adjacent pages as one run. It
// takes one pass, whatever the entries say.
func (l *Ledger) Left(keep func(generation uint64) bool) []Run {
	h := l.head()
	var runs []Run
	for i := range h.entries {
		switch {
		case !h.used(i) || keep(atomic.LoadUint64(&h.entries[i].generation)):
		case len(runs) > 0 && runs[len(runs)-1].First+runs[len(runs)-1].N == i:
			runs[len(runs)-1].N++
		default:
			runs = append(runs, Run{i, 1})
		}
	}
	return runs
}

func (l *Ledger) head() *head { return (*head)(unsafe.Pointer(&l.mapping[0])) }
