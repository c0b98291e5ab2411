package record

import (
	"fmt"

	"golang.org/x/sys/unix"

	"reuseportd/internal/memfd"
)

// Memory is what a memfd is known by. Whatever name it has and whatever is in it, no
// other has the same device and inode while this one is there.
type Memory struct {
	Dev uint64 `json:"dev"`
	Ino uint64 `json:"ino"`
	// Format is what its words mean. It is not read from the memory, which workers can
	// write to.
	Format string `json:"format"`
}

// MemoryOf returns what a descriptor is known by.
func MemoryOf(fd int, format string) (Memory, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return Memory{}, fmt.Errorf("fstat: %w", err)
	}
	return Memory{Dev: st.Dev, Ino: st.Ino, Format: format}, nil
}

// Is reports whether a descriptor is of this memory, sealed as it was made. The seals come
// first, for only memory has any: to ask a file system that its user made up
// (FUSE) for the inode could take for ever.
func (m Memory) Is(fd int) bool {
	if _, err := memfd.Size(fd); err != nil {
		return false
	}
	got, err := MemoryOf(fd, m.Format)
	return err == nil && got == m && m.Ino != 0
}
