// Package clients counts the connections that each client address has at a listener, over all
// loops, workers and generations, in memory that they share.
//
// It owns the layout of that memory and the rule by which a bound is kept. It must never lock,
// wait, or use an index that it has read from the memory.
//
// Each loop writes to a row of its own and reads those of the others, so what a killed loop had
// counted is freed with its row. A worker that an attacker controls can falsify the counts, so
// that clients are let in or refused wrongly. It can't make others wait or fail, since there are
// no locks and each search has an end.
package clients

import (
	"errors"
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"reuseportd/internal/memfd"
)

const (
	// Rows is the largest number of loops: there is a row for each page of a ledger.
	Rows = 4096
	ways = 8
	sets = 4096
	// slots is how many clients a loop can count at the same time.
	slots = sets * ways

	rowSize   = slots * 8
	headSize  = 9 * 4096
	tableSize = headSize + int64(Rows)*rowSize
)

// version is the meaning of the words of a table.
const version = 1

// Table is the mapped memory. Pages that nobody has touched cost nothing.
type Table struct {
	fd  int
	key key
	mem []byte // the mapped head. Invariant: within the sealed size of fd, as cells is
	*head
	cells []byte // nil until a row is used: the master needs none
}

// head is the first pages of the memory.
type head struct {
	// words has a bit for each word of used that may be other than zero. Bits are never
	// cleared.
	words atomic.Uint64
	_     [7]uint64
	// used has a bit for each row that may hold anything but zeros: only those are read.
	used [Rows / 64]atomic.Uint64
	_    [512 - 8 - Rows/64]uint64
	// moves has, for each row, how many of its connections ever left for or came from another
	// loop, and in the lowest bits how many are on their way.
	moves [Rows]atomic.Uint64
}

// A seat is a uint16, and 0 means none; this doesn't compile if the numbers don't fit.
const (
	_ = uint16(slots)
	_ = uint(headSize - unsafe.Sizeof(head{}))
)

// New makes an empty table.
func New() (*Table, error) {
	k, err := newKey()
	if err != nil {
		return nil, fmt.Errorf("table of clients: %w", err)
	}
	fd, err := memfd.Sized("reuseportd-clients", tableSize)
	if err != nil {
		return nil, fmt.Errorf("table of clients: %w", err)
	}
	return open(fd, k)
}

// Adopt maps the table of a received descriptor, which it takes over, and closes if it fails. format
// is the sender's Format, and is believed: nothing in the memory can prevent its use. Adopt refuses
// memory that is not sealed or has another size.
func Adopt(fd int, format string) (*Table, error) {
	size, err := memfd.Size(fd)
	if err == nil && size != tableSize {
		err = fmt.Errorf("%d bytes are not a table, which has %d", size, tableSize)
	}
	var k key
	if err == nil {
		k, err = parse(format)
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("table of clients: %w", err)
	}
	return open(fd, k)
}

func open(fd int, k key) (*Table, error) {
	unix.CloseOnExec(fd)
	mem, err := unix.Mmap(fd, 0, headSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("table of clients: mmap: %w", err)
	}
	return &Table{fd: fd, key: k, mem: mem, head: (*head)(unsafe.Pointer(&mem[0]))}, nil
}

// Format says what the words of the table mean, and includes the key of their hashes. It is
// passed on to processes that use the table, and not stored in it, where a worker could
// change it.
func (t *Table) Format() string { return fmt.Sprintf("%d %016x %016x", version, t.key[0], t.key[1]) }

func parse(format string) (k key, err error) {
	var v int
	if n, err := fmt.Sscanf(format, "%d %16x %16x", &v, &k[0], &k[1]); err != nil || n != 3 || v != version {
		return k, fmt.Errorf("format %.60q, this release knows version %d", format, version)
	}
	return k, nil
}

// FD returns the descriptor, close-on-exec, to lend to another process. It stays the table's.
func (t *Table) FD() int { return t.fd }

// ClearRows sets n rows from first on to zero, and frees their memory. The master calls it
// when the rows' pages of the ledger are reserved, when their worker has died and when they
// are folded: no loop may use the rows.
func (t *Table) ClearRows(first, n int) {
	if first < 0 || n < 1 || first > Rows-n {
		return
	}
	for i := first; i < first+n; i++ {
		t.used[i/64].And(^(uint64(1) << (i % 64)))
		t.moves[i].Store(t.moves[i].Load() &^ maxCount)
	}
	// Done whatever the bits say, since a worker may have changed them. It can't fail, since
	// the memory is not sealed against writing.
	_ = unix.Fallocate(t.fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, headSize+int64(first)*rowSize, int64(n)*rowSize)
}

// Close unmaps the memory. Closing twice is harmless. The table's rows can't be used after
// it.
func (t *Table) Close() error {
	if t.mem == nil {
		return nil
	}
	err := errors.Join(unix.Munmap(t.mem), unix.Close(t.fd))
	if t.cells != nil {
		err = errors.Join(err, unix.Munmap(t.cells))
	}
	t.fd, t.mem, t.head, t.cells = -1, nil, nil, nil
	if err != nil {
		return fmt.Errorf("table of clients: close: %w", err)
	}
	return nil
}
