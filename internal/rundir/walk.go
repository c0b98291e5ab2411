package rundir

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// maxLinks bounds the symbolic links on the way to a directory, as the kernel does
// (path_resolution(7)).
const maxLinks = 40

// maxLink bounds the target of one of them, in bytes: PATH_MAX.
const maxLink = 4096

// walk follows a path one component at a time, and makes sure that only trusted users can
// make it lead elsewhere. It checks what it has opened, so it doesn't matter if a
// component is exchanged afterwards.
type walk struct {
	trusted []uint32 // who may own a component: root, this user, and for a client the directory's owner
	make    bool     // make components that are missing
	unsafe  bool     // check nothing

	rest  []string // components still to be walked
	stack []int    // open directories from / on. Invariant: never empty while walking
	names []string // names of the directories after the first
	links int
	made  bool // the last component was made
}

// unsafeError is a component that belongs to others, or that others could exchange.
type unsafeError struct{ path, why string }

func (e *unsafeError) Error() string { return e.path + " " + e.why }

// to walks an absolute path and returns a descriptor of the directory (O_PATH).
func (w *walk) to(path string) (fd int, err error) {
	root, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open /: %w", err)
	}
	w.stack, w.rest = []int{root}, strings.Split(path, "/")
	defer func() {
		for _, d := range w.stack {
			_ = unix.Close(d)
		}
	}()
	if err := w.passable("/", root); err != nil {
		return -1, err
	}
	for len(w.rest) > 0 {
		name := w.rest[0]
		w.rest = w.rest[1:]
		if err := w.step(name); err != nil {
			return -1, err
		}
	}
	last := len(w.stack) - 1
	fd, w.stack = w.stack[last], w.stack[:last]
	return fd, nil
}

// step walks one component.
func (w *walk) step(name string) error {
	last := len(w.stack) - 1
	switch name {
	case "", ".":
		return nil
	case "..":
		if last > 0 {
			_ = unix.Close(w.stack[last])
			w.stack, w.names = w.stack[:last], w.names[:last-1]
		}
		return nil
	}
	fd, err := w.open(w.stack[last], name)
	path := w.path(name)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		_ = unix.Close(fd)
		return fmt.Errorf("%s: %w", path, err)
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		w.stack, w.names = append(w.stack, fd), append(w.names, name)
		if w.last() {
			return nil // Open has its own rules for it
		}
		return w.passable(path, fd)
	case unix.S_IFLNK:
		defer unix.Close(fd)
		return w.follow(path, fd, st.Uid)
	default:
		_ = unix.Close(fd)
		return fmt.Errorf("%s: %w", path, unix.ENOTDIR)
	}
}

// open opens a component, making it first if it is missing and may be made.
func (w *walk) open(at int, name string) (int, error) {
	const flags = unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Openat(at, name, flags, 0)
	if !errors.Is(err, unix.ENOENT) || !w.make {
		return fd, err
	}
	m := uint32(0o755)
	if w.last() {
		m = mode
	}
	if err = unix.Mkdirat(at, name, m); err != nil && !errors.Is(err, unix.EEXIST) {
		return -1, err
	}
	w.made = err == nil && w.last()
	return unix.Openat(at, name, flags, 0)
}

// last reports whether nothing but empty components is to come.
func (w *walk) last() bool {
	return !slices.ContainsFunc(w.rest, func(s string) bool { return s != "" && s != "." })
}

func (w *walk) path(name string) string {
	return "/" + strings.Join(append(slices.Clone(w.names), name), "/")
}

// passable returns an error if another user could exchange what is in a directory on the
// way: its owner must be trusted, and others may not write to it, unless the sticky bit
// restricts them to their own entries.
func (w *walk) passable(path string, fd int) error {
	if w.unsafe {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	switch {
	case !slices.Contains(w.trusted, st.Uid):
		return &unsafeError{path, fmt.Sprintf("belongs to uid %d, who can put another directory in the place of what is in it", st.Uid)}
	case st.Mode&0o022 != 0 && st.Mode&unix.S_ISVTX == 0:
		return &unsafeError{path, fmt.Sprintf("can be written to by others (mode %04o), who can put another directory in the place of what is in it", st.Mode&0o7777)}
	}
	return nil
}

// follow continues with the target of a symbolic link, if it belongs to a trusted user:
// in a sticky directory anybody can make links.
func (w *walk) follow(path string, fd int, owner uint32) error {
	if !w.unsafe && !slices.Contains(w.trusted, owner) {
		return &unsafeError{path, fmt.Sprintf("is a symbolic link of uid %d", owner)}
	}
	if w.links++; w.links > maxLinks {
		return fmt.Errorf("%s: %w", path, unix.ELOOP)
	}
	buf := make([]byte, maxLink)
	n, err := unix.Readlinkat(fd, "", buf)
	if err != nil {
		return fmt.Errorf("%s: readlink: %w", path, err)
	}
	target := string(buf[:n])
	if strings.HasPrefix(target, "/") {
		for _, d := range w.stack[1:] {
			_ = unix.Close(d)
		}
		w.stack, w.names = w.stack[:1], nil
	}
	w.rest = append(strings.Split(target, "/"), w.rest...)
	return nil
}

// trusted are the users whose directories a process of this user may pass through.
func trusted() []uint32 { return []uint32{0, uint32(os.Geteuid())} }
