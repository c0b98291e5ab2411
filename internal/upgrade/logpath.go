package upgrade

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// A log's directory often belongs to the workers' user, who may put there what they like: a symbolic link
// instead of a log would have root write to any file, and hand the workers its descriptor. So
// links are followed only if they are root's or this process's user's, at each component.

// maxLogSteps bounds the components of a log's path and of the links in it, and what is tried again.
const maxLogSteps = 256

// logWalk goes along a path.
type logWalk struct {
	dir  int      // an open directory (O_PATH)
	rest []string // components still to go
}

// openTrusted is open(2) of a path whose links are root's or this user's.
func openTrusted(path string, flags int, perm uint32) (int, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return -1, err
	}
	w := logWalk{dir: -1}
	defer func() { w.enter(-1) }()
	if err := w.root(path); err != nil {
		return -1, err
	}
	for range maxLogSteps {
		fd, err := w.step(flags|unix.O_CLOEXEC, perm)
		if fd >= 0 || err != nil {
			return fd, err
		}
	}
	return -1, unix.ELOOP
}

// root goes on with an absolute path.
func (w *logWalk) root(path string) error {
	fd, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	w.enter(fd)
	w.rest = append(parts(path), w.rest...)
	return nil
}

func (w *logWalk) enter(dir int) {
	if w.dir >= 0 {
		_ = unix.Close(w.dir)
	}
	w.dir = dir
}

func parts(path string) []string {
	return slices.DeleteFunc(strings.Split(path, "/"), func(s string) bool { return s == "" || s == "." })
}

// step goes one component on. It returns the file's descriptor if that was the last one, else -1.
func (w *logWalk) step(flags int, perm uint32) (int, error) {
	if len(w.rest) == 0 {
		return -1, unix.EISDIR
	}
	name, last := w.rest[0], len(w.rest) == 1
	at, err := unix.Openat(w.dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) && last {
		fd, err := unix.Openat(w.dir, name, flags|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW, perm)
		if errors.Is(err, unix.EEXIST) {
			return -1, nil // made meanwhile: once more
		}
		return fd, err
	}
	if err != nil {
		return -1, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(at, &st); err != nil {
		_ = unix.Close(at)
		return -1, err
	}
	switch kind := st.Mode & unix.S_IFMT; {
	case kind == unix.S_IFLNK:
		defer unix.Close(at)
		return w.follow(at, name, st.Uid, flags)
	case kind == unix.S_IFDIR:
		w.enter(at)
		w.rest = w.rest[1:]
		return -1, nil
	case !last:
		_ = unix.Close(at)
		return -1, unix.ENOTDIR
	case kind != unix.S_IFREG && !trusts(st.Uid) && kind != unix.S_IFCHR:
		_ = unix.Close(at)
		return -1, fmt.Errorf("it is no regular file and belongs to uid %d, who could hold up whoever writes to it", st.Uid)
	}
	_ = unix.Close(at)
	fd, err := unix.Openat(w.dir, name, flags&^unix.O_CREAT|unix.O_NOFOLLOW, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ELOOP) {
		return -1, nil // exchanged meanwhile: once more
	}
	return fd, err
}

// follow goes on with a link's target.
func (w *logWalk) follow(link int, name string, owner uint32, flags int) (int, error) {
	if !trusts(owner) {
		return -1, fmt.Errorf("%s is a symbolic link of uid %d, who could have it lead to any file: "+
			"make it as root, or name the file itself", name, owner)
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(link, &fs); err != nil {
		return -1, err
	}
	w.rest = w.rest[1:]
	if len(w.rest) == 0 && fs.Type == unix.PROC_SUPER_MAGIC { // /dev/stdout: its target's name is none
		return unix.Openat(w.dir, name, flags&^unix.O_CREAT, 0)
	}
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(link, "", buf)
	if err != nil {
		return -1, err
	}
	target := string(buf[:n])
	if filepath.IsAbs(target) {
		return -1, w.root(target)
	}
	w.rest = append(parts(target), w.rest...)
	return -1, nil
}

// trusts reports whether a user's links may be followed.
func trusts(uid uint32) bool { return uid == 0 || uid == uint32(os.Geteuid()) }
