package stats

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"reuseportd/internal/memfd"
)

// ledgerHeader begins with "rpdledg"; the last byte is the version of the head.
const ledgerHeader = uint64(0x7270_646c_6564_6700) | 1

// head is the beginning of a ledger's memory, before the pages of the loops. One process
// writes it, and may be killed between any two stores. Two of its words decide which of
// the others count, so each change takes effect with one store: to sequence for the
// counters, to reserved for the pages.
type head struct {
	header   uint64 // ledgerHeader
	counters uint64 // header of a page: what the words of past mean
	// sequence counts the changes of past. Invariant: past[sequence%2] is
	// complete and nobody writes to it; the other is scratch.
	sequence uint64
	// reserved is the incarnation of the last reservation that is complete.
	// Invariant: it grows, so no two reservations have the same one.
	reserved uint64
	_        [4]uint64
	locks    [MaxLocks]lock
	_        [PageSize/8 - 8 - 8*MaxLocks]uint64
	past     [2]past
	entries  [MaxPages]entry
}

// past is what was counted on pages that are free again. It names the pages that were
// added last, whose entries can only be cleared afterwards: first to first+n-1, unless
// they were reserved after the incarnation last.
type past struct {
	first, n, last uint64
	_              [5]uint64
	words          words // open is always zero
}

// entry says which generation has a page. The page itself can't say so, since reading
// pages that nobody uses would allocate them.
type entry struct {
	incarnation uint64 // of the reservation that the page belongs to; 0: free
	generation  uint64
}

const (
	headPages  = int(unsafe.Sizeof(head{}) / PageSize)
	ledgerSize = int64(headPages+MaxPages) * PageSize
)

// A lock has a cache line; this doesn't compile otherwise.
const _ = -(unsafe.Sizeof(lock{}) % 64)

// The head must end where a page does; this doesn't compile otherwise.
const _ = -(unsafe.Sizeof(head{}) % PageSize)

// Format says what the words of this release's ledgers mean. It is passed on together
// with a ledger: the header in the memory says the same, but a worker could overwrite it.
var Format = fmt.Sprintf("%x/%x", ledgerHeader, header)

// checkSize refuses memory that can't be a ledger.
func checkSize(fd int) error {
	size, err := memfd.Size(fd)
	if err == nil && size != ledgerSize {
		err = fmt.Errorf("%d bytes are not a ledger, which has %d", size, ledgerSize)
	}
	return err
}

// checkLedger refuses memory that isn't a ledger, or one of a release whose
// words mean something else.
func checkLedger(fd int) error {
	if err := checkSize(fd); err != nil {
		return err
	}
	var b [16]byte
	if _, err := unix.Pread(fd, b[:], 0); err != nil {
		return fmt.Errorf("read the head of the ledger: %w", err)
	}
	for i, want := range []uint64{ledgerHeader, header} {
		if got := binary.NativeEndian.Uint64(b[i*8:]); got != want {
			return fmt.Errorf("ledger: header %#x, this release knows %#x", got, want)
		}
	}
	return nil
}

// active returns the past that is valid.
func (h *head) active() *past { return &h.past[atomic.LoadUint64(&h.sequence)%2] }

// used reports whether page i belongs to a generation. It doesn't while its reservation
// is incomplete, nor once past has its counters, whatever its entry says.
func (h *head) used(i int) bool {
	inc := atomic.LoadUint64(&h.entries[i].incarnation)
	return inc != 0 && inc <= atomic.LoadUint64(&h.reserved) && !h.active().has(uint64(i), inc)
}

func (p *past) has(i, incarnation uint64) bool {
	first, n := atomic.LoadUint64(&p.first), atomic.LoadUint64(&p.n)
	return i >= first && i-first < n && incarnation <= atomic.LoadUint64(&p.last)
}

// room returns the first of n consecutive pages that are not used.
func room(n int, used func(page int) bool) (first int, ok bool) {
	free := 0
	for i := range MaxPages {
		if free++; used(i) {
			free = 0
		}
		if free == n {
			return i - n + 1, true
		}
	}
	return 0, false
}
