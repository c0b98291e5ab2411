// Package load is the memory in which the event loops of a generation publish their load,
// and from which the kernel reads it to choose the loop for a new connection.
//
// It owns the layout of that memory, which has three writers: the loops, the master, and
// the program that steers (internal/shard). It must never make a loop wait or allocate.
package load

import (
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"reuseportd/internal/eventloop"
)

// Entry is the memory of one slot: one cache line that its loop writes, and one for the
// other writers.
type Entry struct {
	eventloop.Load
	_ [4]uint64

	// Served says that the slot's loop accepts from its shards, 1, or does not
	// (yet, or any more), 0. The master writes it.
	Served uint64
	// Due is how many connections had been steered to the slot but not accepted when the
	// latest one was steered. Since then Load.Accepted minus Seen have been accepted. Due is
	// halved in each Epoch, because not every handshake is completed. The program writes
	// these words, on any CPU and without a lock: it doesn't matter if a count is lost now
	// and then.
	Due   uint64
	Seen  uint64
	Epoch uint64
	_     [4]uint64
}

// Size is the size of an Entry in bytes.
const Size = int(unsafe.Sizeof(Entry{}))

// Table is the mapped entries of a generation.
type Table struct {
	fd      int
	mapping []byte
	entries []Entry
}

// Open maps the entries of the first n slots. It takes over fd, a BPF map that can be
// mapped, and closes it if it fails. It needs no privilege besides the descriptor.
func Open(fd, n int) (*Table, error) {
	unix.CloseOnExec(fd)
	page := os.Getpagesize()
	size := (n*Size + page - 1) / page * page
	mapping, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("map the loads of %d slots: %w", n, err)
	}
	return &Table{fd, mapping, unsafe.Slice((*Entry)(unsafe.Pointer(&mapping[0])), n)}, nil
}

// FD returns the descriptor, for passing it to another process. The table keeps owning
// it.
func (t *Table) FD() int { return t.fd }

// Len returns the number of slots.
func (t *Table) Len() int { return len(t.entries) }

// Slot returns the entry of a slot. The memory is gone after Close.
func (t *Table) Slot(slot int) *Entry { return &t.entries[slot] }

// Serve sets whether a slot is served.
func (t *Table) Serve(slot int, served bool) {
	word := uint64(0)
	if served {
		word = 1
	}
	atomic.StoreUint64(&t.entries[slot].Served, word)
}

// Close unmaps the memory and closes the descriptor.
func (t *Table) Close() error {
	err := unix.Munmap(t.mapping)
	t.mapping, t.entries = nil, nil
	if cerr := unix.Close(t.fd); err == nil {
		err = cerr
	}
	return err
}
