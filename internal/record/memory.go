package record

import (
	"fmt"

	"golang.org/x/sys/unix"

	"reuseportd/internal/memfd"
)

// Memory identifies a memfd. Whatever its name and contents, no other has the same device
// and inode while it exists.
type Memory struct {
	Dev uint64 `json:"dev"`
	Ino uint64 `json:"ino"`
	// Format says what its words mean. It is not read from the memory, which workers can
	// write to.
	Format string `json:"format"`
}

// MemoryOf returns the identity of a descriptor's memory.
func MemoryOf(fd int, format string) (Memory, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return Memory{}, fmt.Errorf("fstat: %w", err)
	}
	return Memory{Dev: st.Dev, Ino: st.Ino, Format: format}, nil
}

// Is reports whether a descriptor is of this memory, with its seals. It checks the seals
// first, since only memfds have them: to ask a file system that a user has made (FUSE) for
// an inode could take for ever.
func (m Memory) Is(fd int) bool {
	if _, err := memfd.Size(fd); err != nil {
		return false
	}
	got, err := MemoryOf(fd, m.Format)
	return err == nil && got == m && m.Ino != 0
}
