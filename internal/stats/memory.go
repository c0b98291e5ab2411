package stats

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// seals fix the size of the memory, not its contents; fcntl(2).
const seals = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL

// create returns a memfd of so many pages with its size sealed.
func create(pages int) (int, error) {
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	// Kernels before 6.3 don't know MFD_NOEXEC_SEAL, some hosts insist on it.
	fd, err := unix.MemfdCreate("reuseportd-stats", flags|unix.MFD_NOEXEC_SEAL)
	if errors.Is(err, unix.EINVAL) {
		fd, err = unix.MemfdCreate("reuseportd-stats", flags)
	}
	if err != nil {
		return -1, fmt.Errorf("memfd_create: %w", err)
	}
	if err := unix.Ftruncate(fd, int64(pages)*PageSize); err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("ftruncate: %w", err)
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("seal: %w", err)
	}
	return fd, nil
}

// mapped maps all of fd, which it closes if it fails.
func mapped(fd int) (*Region, error) {
	size, err := sealedSize(fd)
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("statistics: %w", err)
	}
	unix.CloseOnExec(fd)
	mem, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("statistics: mmap: %w", err)
	}
	return &Region{fd: fd, mem: mem}, nil
}

func sealedSize(fd int) (int, error) {
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
	if st.Size < PageSize || st.Size > MaxPages*PageSize || st.Size%PageSize != 0 {
		return 0, fmt.Errorf("%d bytes are not 1 to %d pages", st.Size, MaxPages)
	}
	return int(st.Size), nil
}
