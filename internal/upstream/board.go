package upstream

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"reuseportd/internal/memfd"
)

// Board is memory that all workers share: the health and counters of servers, and how
// many sessions each event loop has at each. It outlives workers, masters and
// configurations, like the ledger (package stats). Any number of processes use it at the
// same time.
type Board struct {
	fd int
	// mapping is shared. Invariant: it is within the sealed size of fd, so that no
	// access can fault.
	mapping []byte
	*memory
	// patience is until when lock doesn't wait, because it has waited without success;
	// guarded by claiming.
	patience time.Time
}

const boardSize = int64(unsafe.Sizeof(memory{}))

// NewBoard makes an empty board.
func NewBoard() (*Board, error) {
	fd, err := memfd.Sized("reuseportd-upstreams", boardSize)
	if err != nil {
		return nil, fmt.Errorf("board of upstreams: %w", err)
	}
	b, err := mapBoard(fd)
	if err != nil {
		return nil, err
	}
	b.header = header
	return b, nil
}

// OpenBoard maps the board of a received descriptor, which it takes over, and closes if it
// fails. It refuses memory that is no board or whose size is not sealed, and a board whose
// words mean something else in this release.
func OpenBoard(fd int) (*Board, error) {
	size, err := memfd.Size(fd)
	if err != nil {
		return nil, refuse(fd, err)
	}
	if size != boardSize {
		return nil, refuse(fd, fmt.Errorf("%d bytes are not a board, which has %d", size, boardSize))
	}
	var word [8]byte
	if _, err := unix.Pread(fd, word[:], 0); err != nil {
		return nil, refuse(fd, fmt.Errorf("read the header: %w", err))
	}
	if got := binary.NativeEndian.Uint64(word[:]); got != header {
		return nil, refuse(fd, fmt.Errorf("header %#x, this release knows %#x", got, header))
	}
	return mapBoard(fd)
}

// Format says what the words of this release's boards mean. It is passed on together with
// a board: the header in the memory says the same, but a worker could overwrite it.
var Format = fmt.Sprintf("%x", header)

// AdoptBoard is like OpenBoard for memory whose Format is known from a trusted source, so that
// nothing in the memory can prevent its use. It corrects the header. If format is empty, as from
// an older release, the header is used.
func AdoptBoard(fd int, format string) (*Board, error) {
	if format == "" {
		return OpenBoard(fd)
	}
	size, err := memfd.Size(fd)
	switch {
	case err != nil:
		return nil, refuse(fd, err)
	case size != boardSize:
		return nil, refuse(fd, fmt.Errorf("%d bytes are not a board, which has %d", size, boardSize))
	case format != Format:
		return nil, refuse(fd, fmt.Errorf("format %q, this release knows %q", format, Format))
	}
	b, err := mapBoard(fd)
	if err == nil {
		b.header = header
	}
	return b, err
}

func mapBoard(fd int) (*Board, error) {
	unix.CloseOnExec(fd)
	mapping, err := unix.Mmap(fd, 0, int(boardSize), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, refuse(fd, fmt.Errorf("mmap: %w", err))
	}
	return &Board{fd: fd, mapping: mapping, memory: (*memory)(unsafe.Pointer(&mapping[0]))}, nil
}

// refuse closes a descriptor that can't be used, and returns err.
func refuse(fd int, err error) error {
	_ = unix.Close(fd)
	return fmt.Errorf("board of upstreams: %w", err)
}

// FD returns the close-on-exec descriptor, for passing it to another process. The board keeps
// owning it.
func (b *Board) FD() int { return b.fd }

// Close unmaps the memory and closes the descriptor. Closing twice is harmless. The
// board's servers and choosers can't be used after it.
func (b *Board) Close() error {
	if b.mapping == nil {
		return nil
	}
	err := errors.Join(unix.Munmap(b.mapping), unix.Close(b.fd))
	b.fd, b.mapping, b.memory = -1, nil, nil
	if err != nil {
		return fmt.Errorf("board of upstreams: close: %w", err)
	}
	return nil
}
