package files

import (
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"reuseportd/internal/config"
)

// Root is a directory whose regular files are served.
type Root struct {
	fd    int // O_PATH
	index string
	cache time.Duration // 0: no cache
}

// lookup has a loop's buffers for finding a file.
type lookup struct {
	name []byte // relative to the root, NUL-terminated
	etag []byte
	data []byte // a small file's bytes
	stat unix.Stat_t

	cache   fileCache
	settled bool // the file may be put into the cache: stat describes what was read
	again   unix.Stat_t
	held    []byte // the whole file, from the cache, if it was there; nil if the file was opened
}

// Open opens a directory. Files are looked up in it as long as the Root is open, even if
// its name leads elsewhere later.
func Open(c *config.Files) (*Root, error) {
	fd, err := unix.Open(c.Root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open root %s: %w", c.Root, err)
	}
	// openat2(2) is missing before Linux 5.6 and under some seccomp profiles. There is no
	// safe substitute, so it is better to know at once.
	try, errno := openBeneath(fd, []byte(".\x00"))
	switch errno {
	case 0:
		closeFD(try)
	case unix.EACCES:
		// The worker is confined to the directory that stood here a moment ago (Landlock, which
		// faccessat doesn't ask).
		if unix.Faccessat(fd, ".", unix.R_OK, unix.AT_EACCESS) == nil {
			closeFD(fd)
			return nil, fmt.Errorf("open root %s: another directory has taken its place while the worker started; try again", c.Root)
		}
	case unix.ENOSYS, unix.EINVAL, unix.E2BIG:
		closeFD(fd)
		return nil, fmt.Errorf("look up files below %s: openat2: %w", c.Root, errno)
	}
	return &Root{fd: fd, index: c.Index, cache: c.Cache}, nil
}

// Close closes the directory.
func (r *Root) Close() { closeFD(r.fd) }

// beneath makes the kernel keep a lookup below the root, whatever symbolic links and
// concurrent renames do. O_NONBLOCK is there so that opening a FIFO without a writer
// doesn't block.
var beneath = unix.OpenHow{
	Flags:   unix.O_RDONLY | unix.O_NONBLOCK | unix.O_CLOEXEC | unix.O_NOCTTY,
	Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS,
}

// openTries bounds how often a lookup is tried when renames or mounts somewhere in the
// system disturb it (EAGAIN).
const openTries = 8

// openBeneath opens name, which ends in a NUL: openat2(2), without an allocation.
func openBeneath(dir int, name []byte) (fd int, errno unix.Errno) {
	for range openTries {
		var n uintptr
		n, _, errno = unix.Syscall6(unix.SYS_OPENAT2, uintptr(dir), uintptr(unsafe.Pointer(&name[0])),
			uintptr(unsafe.Pointer(&beneath)), unsafe.Sizeof(beneath), 0, 0)
		if fd = int(n); errno != unix.EAGAIN && errno != unix.EINTR {
			break
		}
	}
	return fd, errno
}

// dup returns another descriptor of the same open file.
func dup(fd int) (int, error) { return unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3) }

// statusOf returns the status for a failed lookup. What lies outside of the root (EXDEV)
// and what is no file (ENXIO: a socket) is not found.
func statusOf(errno unix.Errno) int {
	switch errno {
	case unix.ENOENT, unix.ENOTDIR, unix.ENAMETOOLONG, unix.ELOOP, unix.EXDEV, unix.ENXIO, unix.ENODEV:
		return 404
	case unix.EACCES, unix.EPERM:
		return 403
	case unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.EAGAIN, unix.EINTR:
		return 503
	}
	return 500
}
