package stats

import (
	"errors"
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"reuseportd/internal/eventloop"
)

// MaxPages bounds the loops of one worker.
const MaxPages = 4096

// Region is the mapped memory of one worker.
type Region struct {
	fd int
	// mem is mapped shared. Invariant: it is as long as the sealed size of
	// fd, so that no access can fault.
	mem []byte
}

// Create makes a region of so many pages, all counters zero. Its size is
// sealed: no holder of the descriptor can make another's access fault.
func Create(pages int) (*Region, error) {
	if pages < 1 || pages > MaxPages {
		return nil, fmt.Errorf("statistics: %d pages, want 1 to %d", pages, MaxPages)
	}
	fd, err := create(pages)
	if err != nil {
		return nil, fmt.Errorf("statistics: %w", err)
	}
	r, err := mapped(fd)
	if err != nil {
		return nil, err
	}
	for i := range pages {
		r.page(i).header = header
	}
	return r, nil
}

// Open maps the region of a received descriptor, which it owns from here on
// and closes if it fails. It refuses memory whose size is not sealed, and pages
// whose words mean something else in this release.
func Open(fd int) (*Region, error) {
	r, err := mapped(fd)
	if err != nil {
		return nil, err
	}
	for i := range r.Len() {
		if err := r.page(i).check(i); err != nil {
			return nil, errors.Join(err, r.Close())
		}
	}
	return r, nil
}

// Len returns the number of pages.
func (r *Region) Len() int { return len(r.mem) / PageSize }

// FD returns the descriptor, close-on-exec, to lend to another process. It stays the region's.
func (r *Region) FD() int { return r.fd }

// Page returns the counters of loop i for that loop to write. The memory is
// gone after Close.
func (r *Region) Page(i int) *eventloop.Counters { return &r.page(i).counters }

// Read returns a copy of the counters of loop i. Each is right by itself; the
// loop may have moved on between one and the next.
func (r *Region) Read(i int) eventloop.Counters {
	var c eventloop.Counters
	from := (*[words]uint64)(unsafe.Pointer(&r.page(i).counters))
	to := (*[words]uint64)(unsafe.Pointer(&c))
	for w := range from {
		to[w] = atomic.LoadUint64(&from[w])
	}
	return c
}

// Close unmaps the memory and closes the descriptor. Closing twice is harmless.
func (r *Region) Close() error {
	if r.mem == nil {
		return nil
	}
	err := unix.Munmap(r.mem)
	cerr := unix.Close(r.fd)
	r.mem, r.fd = nil, -1
	if err = errors.Join(err, cerr); err != nil {
		return fmt.Errorf("statistics: close: %w", err)
	}
	return nil
}

func (r *Region) page(i int) *page {
	return (*page)(unsafe.Pointer(&r.mem[i*PageSize : (i+1)*PageSize][0]))
}
