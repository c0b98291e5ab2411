package stats

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"reuseportd/internal/memfd"
)

// create returns a memfd of a number of pages, with its size sealed. They cost nothing
// until they are touched.
func create(pages int) (int, error) {
	fd, err := memfd.Sized("reuseportd-stats", int64(pages)*PageSize)
	if err != nil {
		return -1, fmt.Errorf("statistics: %w", err)
	}
	return fd, nil
}

// mapped maps n pages of fd from the page first on. The region takes over fd, which is
// closed if that fails.
func mapped(fd, first, n int) (*Region, error) {
	unix.CloseOnExec(fd)
	// The offset must be a multiple of the kernel's page size, which may be larger; mmap(2).
	offset := first * PageSize
	skew := offset % os.Getpagesize()
	const prot = unix.PROT_READ | unix.PROT_WRITE
	mapping, err := unix.Mmap(fd, int64(offset-skew), skew+n*PageSize, prot, unix.MAP_SHARED)
	if err != nil {
		return nil, refuse(fd, fmt.Errorf("mmap: %w", err))
	}
	top, err := unix.Mmap(fd, 0, int(unsafe.Offsetof(head{}.past)), prot, unix.MAP_SHARED)
	if err != nil {
		_ = unix.Munmap(mapping)
		return nil, refuse(fd, fmt.Errorf("mmap: %w", err))
	}
	return &Region{fd: fd, mapping: mapping, mem: mapping[skew:], head: top}, nil
}

// refuse closes a descriptor that can't be used, and returns err.
func refuse(fd int, err error) error {
	_ = unix.Close(fd)
	return fmt.Errorf("statistics: %w", err)
}
