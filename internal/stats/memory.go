package stats

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// seals fix the size of the memory, not its contents; fcntl(2).
const seals = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL

// create returns a memfd of so many pages with its size sealed. The pages are
// zero and cost nothing until they are touched; memfd_create(2).
func create(pages int) (int, error) {
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	// Kernels before 6.3 don't know MFD_NOEXEC_SEAL, some hosts insist on it.
	fd, err := unix.MemfdCreate("reuseportd-stats", flags|unix.MFD_NOEXEC_SEAL)
	if errors.Is(err, unix.EINVAL) {
		fd, err = unix.MemfdCreate("reuseportd-stats", flags)
	}
	if err != nil {
		return -1, fmt.Errorf("statistics: memfd_create: %w", err)
	}
	if err := unix.Ftruncate(fd, int64(pages)*PageSize); err != nil {
		return -1, refuse(fd, fmt.Errorf("ftruncate: %w", err))
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		return -1, refuse(fd, fmt.Errorf("seal: %w", err))
	}
	return fd, nil
}

// mapped maps n pages of fd from the page first on. The region owns fd, which
// is closed if that fails.
func mapped(fd, first, n int) (*Region, error) {
	unix.CloseOnExec(fd)
	// The offset counts in pages of the kernel, which may be larger; mmap(2).
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

// sealedSize returns the size of fd in bytes, which nobody can change.
func sealedSize(fd int) (int64, error) {
	got, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
	if err != nil {
		return 0, fmt.Errorf("get seals: %w", err)
	}
	if got&seals != seals {
		return 0, fmt.Errorf("seals %#x, want %#x", got, seals)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0, fmt.Errorf("fstat: %w", err)
	}
	return st.Size, nil
}

// refuse closes a descriptor that is of no use, and returns why.
func refuse(fd int, err error) error {
	_ = unix.Close(fd)
	return fmt.Errorf("statistics: %w", err)
}
