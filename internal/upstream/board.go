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

// Board is the memory of all workers about servers: their health, counters and how many
// sessions each event loop has at each. It outlives workers, masters and
// configurations, as the ledger does (package stats). Any number of processes use it at
// the same time.
type Board struct {
	fd int
	// mapping is shared. Invariant: it is within the sealed size of fd, so that no
	// access can fault.
	mapping []byte
	*memory
	// patience is until when lock doesn't wait, as it did in vain; guarded by claiming.
	patience time.Time
}

const boardSize = int64(unsafe.Sizeof(memory{}))

// NewBoard makes a board that knows of nothing.
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

// OpenBoard maps the board of a received descriptor, which it owns from here on and closes
// if it fails. It refuses memory that is no board or whose size is not sealed, and a board
// whose words mean something else in this release.
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

// Format says what the words of this release's boards mean, for whoever passes one on:
// the header in the memory says the same, until a worker writes something else there.
var Format = fmt.Sprintf("%x", header)

// AdoptBoard is OpenBoard of memory whose Format somebody else has told, who is to be
// believed: nothing in the memory can keep it from being used. The header is made right. An empty
// format, as of an older release, is read from there.
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

// refuse closes a descriptor that is of no use, and returns why.
func refuse(fd int, err error) error {
	_ = unix.Close(fd)
	return fmt.Errorf("board of upstreams: %w", err)
}

// FD returns the descriptor, close-on-exec, to lend to another process. It stays the board's.
func (b *Board) FD() int { return b.fd }

// Close unmaps the memory and closes the descriptor. Closing twice is harmless. Nobody
// may use the board's servers and choosers any more.
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
