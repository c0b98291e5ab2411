// Package memfd makes memory that processes share by its descriptor.
//
// It owns the seals that fix the memory's size, so that no access to a mapping can fault.
// It must never look at the contents: what they mean is its users' concern.
package memfd

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"reuseportd/internal/failpoint"
)

// FixedSize are the seals that fix the size of the memory, not its contents; fcntl(2).
const FixedSize = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL

// Create returns a close-on-exec descriptor of an empty memfd that can be sealed. It asks
// for memory that can't be executed, which some hosts insist on (vm.memfd_noexec) and
// kernels before 6.3 don't support. The name shows in /proc/PID/fd only.
func Create(name string) (int, error) {
	if err := failpoint.Hit("memfd"); err != nil {
		return -1, fmt.Errorf("memfd_create: %w", err)
	}
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate(name, flags|unix.MFD_NOEXEC_SEAL)
	if errors.Is(err, unix.EINVAL) {
		fd, err = unix.MemfdCreate(name, flags)
	}
	if err != nil {
		return -1, fmt.Errorf("memfd_create: %w", err)
	}
	return fd, nil
}

// Sized returns a descriptor of size zero bytes, with the size sealed. They cost nothing
// until they are touched; memfd_create(2).
func Sized(name string, size int64) (int, error) {
	fd, err := Create(name)
	if err != nil {
		return -1, err
	}
	if err := unix.Ftruncate(fd, size); err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("ftruncate: %w", err)
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, FixedSize); err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("seal: %w", err)
	}
	return fd, nil
}

// Size returns the number of bytes of fd. It returns an error for memory whose size is
// not sealed.
func Size(fd int) (int64, error) {
	got, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
	if err != nil {
		return 0, fmt.Errorf("get seals: %w", err)
	}
	if got&FixedSize != FixedSize {
		return 0, fmt.Errorf("seals %#x, want %#x", got, FixedSize)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0, fmt.Errorf("fstat: %w", err)
	}
	return st.Size, nil
}
