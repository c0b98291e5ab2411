package stats

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"

	"reuseportd/internal/eventloop"
)

// MaxPages bounds the loops of one worker, and those of all workers together
// that a Ledger has pages for.
const MaxPages = 4096

// Region is the mapped memory of one worker.
type Region struct {
	fd int
	// mapping is shared. Invariant: it ends within the sealed size of fd, so
	// that no access can fault.
	mapping []byte
	// head is the mapped beginning of the ledger, for its mutexes.
	head []byte
	// mem is the pages of the loops, at the end of mapping.
	mem []byte
}

// MapPages maps n pages of a ledger, which its master has reserved for this worker from
// the page first on. They are pages 0 to n-1 of the region. It takes over fd, and closes
// it if it fails. It refuses memory that can't be a ledger, and pages that the ledger
// doesn't have. It doesn't check the contents: the master is of the same release, and
// another worker may have changed them.
func MapPages(fd, first, n int) (*Region, error) {
	if err := checkSize(fd); err != nil {
		return nil, refuse(fd, err)
	}
	if n < 1 || n > MaxPages || first < 0 || first > MaxPages-n {
		return nil, refuse(fd, fmt.Errorf("no %d pages from page %d on, the ledger has %d", n, first, MaxPages))
	}
	return mapped(fd, headPages+first, n)
}

// Len returns the number of pages.
func (r *Region) Len() int { return len(r.mem) / PageSize }

// FD returns the close-on-exec descriptor, for passing it to another process. The region keeps
// owning it.
func (r *Region) FD() int { return r.fd }

// Page returns the counters of loop i, for that loop to write, or for a caller that knows
// that the loop has ended. The memory is gone after Close.
func (r *Region) Page(i int) *eventloop.Counters { return r.page(i).words.counters() }

// Read returns a copy of the counters of loop i. Each counter by itself is right, but
// they are not read at the same moment.
func (r *Region) Read(i int) eventloop.Counters { return r.page(i).words.read() }

// Close unmaps the memory and closes the descriptor. Closing twice is harmless.
func (r *Region) Close() error {
	if r.mapping == nil {
		return nil
	}
	err := errors.Join(unix.Munmap(r.head), unix.Munmap(r.mapping))
	cerr := unix.Close(r.fd)
	r.mapping, r.mem, r.head, r.fd = nil, nil, nil, -1
	if err = errors.Join(err, cerr); err != nil {
		return fmt.Errorf("statistics: close: %w", err)
	}
	return nil
}

func (r *Region) page(i int) *page {
	return (*page)(unsafe.Pointer(&r.mem[i*PageSize : (i+1)*PageSize][0]))
}
