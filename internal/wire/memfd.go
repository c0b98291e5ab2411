package wire

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"reuseportd/internal/memfd"
)

// MaxMemfd bounds the bytes that ReadMemfd accepts: 16 MiB.
const MaxMemfd = 16 << 20

// seals make a memfd's contents final, fcntl(2). F_SEAL_WRITE would do the same for
// memory that nobody has mapped, but it waits until the pages just written have left the
// kernel's batches: milliseconds, sometimes tens of them.
const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_FUTURE_WRITE

// Memfd returns a descriptor, close-on-exec, of memory that holds data and that
// nobody can change any more. The name shows in /proc/PID/fd only.
func Memfd(name string, data []byte) (int, error) {
	if len(data) > MaxMemfd {
		return -1, fmt.Errorf("memfd %s: %w: %d of %d bytes", name, ErrTooLarge, len(data), MaxMemfd)
	}
	fd, err := memfd.Create(name)
	if err != nil {
		return -1, fmt.Errorf("memfd %s: %w", name, err)
	}
	if err := fill(fd, data); err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("memfd %s: %w", name, err)
	}
	return fd, nil
}

func fill(fd int, data []byte) error {
	for off := 0; off < len(data); {
		n, err := unix.Pwrite(fd, data[off:], int64(off))
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("write: %w", err)
		}
		off += max(n, 0)
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		return fmt.Errorf("seal: %w", err)
	}
	return nil
}

// ReadMemfd returns the contents of a descriptor that Memfd made, which stays open. It
// refuses one that is not sealed, since its contents could change under the reader, and
// one larger than MaxMemfd (ErrTooLarge).
func ReadMemfd(fd int) ([]byte, error) {
	got, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
	if err != nil {
		return nil, fmt.Errorf("memfd: get seals: %w", err)
	}
	if got&seals != seals {
		return nil, fmt.Errorf("memfd: seals %#x, want %#x", got, seals)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, fmt.Errorf("memfd: fstat: %w", err)
	}
	if st.Size > MaxMemfd {
		return nil, fmt.Errorf("memfd: %w: %d of %d bytes", ErrTooLarge, st.Size, MaxMemfd)
	}
	data := make([]byte, st.Size)
	for off := 0; off < len(data); {
		n, err := unix.Pread(fd, data[off:], int64(off))
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return nil, fmt.Errorf("memfd: read: %w", err)
		case n == 0:
			return nil, fmt.Errorf("memfd: ends after %d of %d bytes", off, len(data))
		default:
			off += n
		}
	}
	return data, nil
}
