// Package rundir is the runtime directory of one server. It owns the check of the
// directory, the files in it, and the lock that keeps a second instance out.
//
// SO_REUSEPORT lets two instances of the same user share a port silently, so
// nothing may be bound before the lock is held. The package must never wait for
// a lock, follow a link in the directory, or reach anything in it by its path.
package rundir

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"reuseportd/internal/failpoint"
)

// Dir is an open runtime directory. Everything in it is named relative to its
// descriptor, by one component: whatever happens to its path, it is the directory
// that was checked.
type Dir struct {
	path   string
	fd     int
	held   int // see Hold; -1: not held
	owner  uint32
	unsafe bool
	made   bool // Open made it
}

// Options say how a runtime directory is opened.
type Options struct {
	// Make makes the directory, with mode 0750, if it is missing.
	Make bool
	// Client lets root open the directory of another user, to speak to that user's master.
	Client bool
	// Unsafe accepts a directory that others own, can write to, or can exchange: for example
	// a container's volume that nobody else can reach.
	Unsafe bool
}

// Open opens the runtime directory at an absolute path. It must be this user's own and
// writable by nobody else, and each directory above it must be so too, or be root's, or
// sticky. Links on the way are followed if they are root's or this user's. Otherwise
// another user could pose as the master or its workers.
func Open(path string, o Options) (*Dir, error) {
	if !filepath.IsAbs(path) {
		return nil, fmt.Errorf("runtime directory %q: the path is not absolute", path)
	}
	w := walk{trusted: trusted(), make: o.Make, unsafe: o.Unsafe}
	if o.Client && os.Geteuid() == 0 {
		var st unix.Stat_t
		if unix.Stat(path, &st) == nil { // a hint only: the real checks come on the way and below
			w.trusted = append(w.trusted, st.Uid)
		}
	}
	fd, err := w.to(path)
	if err != nil {
		return nil, refusal(path, err)
	}
	d := &Dir{path: filepath.Clean(path), fd: fd, held: -1, unsafe: o.Unsafe, made: w.made}
	owners := w.trusted
	if !o.Client {
		owners = []uint32{uint32(os.Geteuid())}
	}
	if err := d.check(owners); err != nil {
		_ = unix.Close(fd)
		return nil, refusal(path, err)
	}
	return d, nil
}

// check returns an error unless the directory has a trusted owner and a safe mode.
func (d *Dir) check(owners []uint32) error {
	var st unix.Stat_t
	if err := unix.Fstat(d.fd, &st); err != nil {
		return err
	}
	d.owner = st.Uid
	if d.unsafe {
		return nil
	}
	own := false
	for _, uid := range owners {
		own = own || st.Uid == uid
	}
	switch {
	case !own:
		return &unsafeError{d.path, fmt.Sprintf("belongs to uid %d, and this is uid %d", st.Uid, os.Geteuid())}
	case st.Mode&0o022 != 0:
		return &unsafeError{d.path, fmt.Sprintf("can be written to by others (mode %04o)", st.Mode&0o7777)}
	}
	return nil
}

// IsUnsafe reports whether a directory was refused because of what others can do to it.
func IsUnsafe(err error) bool {
	var u *unsafeError
	return errors.As(err, &u)
}

// refusal returns the error that says what to do about a directory that can't be used.
func refusal(path string, err error) error {
	subject := fmt.Sprintf("runtime directory %s: ", path)
	if text := err.Error(); strings.HasPrefix(text, path+" ") || strings.HasPrefix(text, path+": ") {
		subject = "runtime directory: " // which the error names itself
	}
	if !IsUnsafe(err) {
		advice := ""
		for _, e := range []error{unix.EACCES, unix.EPERM, unix.EROFS, unix.ENOTDIR, unix.ELOOP} {
			if errors.Is(err, e) {
				advice = fmt.Sprintf("; name another with --runtime-dir, or let this user (uid %d) have it", os.Geteuid())
			}
		}
		return fmt.Errorf("%s%w%s", subject, err, advice)
	}
	return fmt.Errorf("%s%w; whoever can write there can pose as master or worker. "+
		"Name another with --runtime-dir, or correct owner and mode (chown, chmod go-w); "+
		"--unsafe-runtime-dir uses it all the same, which is right for a volume that nobody else can reach", subject, err)
}

// Path returns the directory's path, for messages.
func (d *Dir) Path() string { return d.path }

// Owner returns the user whom the directory belongs to: its master's.
func (d *Dir) Owner() uint32 { return d.owner }

// Unsafe reports whether the directory was opened with Options.Unsafe.
func (d *Dir) Unsafe() bool { return d.unsafe }

// Close closes the descriptors.
func (d *Dir) Close() error {
	fd := d.fd
	if d.held >= 0 {
		_ = unix.Close(d.held)
	}
	d.fd, d.held = -1, -1
	if fd < 0 {
		return nil
	}
	return unix.Close(fd)
}

// entry returns an error unless a name is one path component.
func entry(name string) error {
	if name == "" || name == "." || name == ".." || strings.Contains(name, "/") {
		return fmt.Errorf("%q is no name of a file in the runtime directory", name)
	}
	return nil
}

// WriteFile writes a file, replacing one of the same name, whole or not at all. It is not
// synced, since it needn't survive a reboot.
func (d *Dir) WriteFile(name string, data []byte, perm uint32) error {
	if err := entry(name); err != nil {
		return err
	}
	fresh := name + ".new"
	err := unix.Unlinkat(d.fd, fresh, 0) // left by a killed master
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("write %s: remove %s: %w", name, fresh, err)
	}
	path := filepath.Join(d.path, fresh)
	fd, err := unix.Openat(d.fd, fresh, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, perm)
	if err == nil {
		if err = failpoint.Hit("write-" + name); err != nil {
			_ = unix.Close(fd)
			_ = unix.Unlinkat(d.fd, fresh, 0)
		}
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", name, &os.PathError{Op: "create", Path: path, Err: err})
	}
	f := os.NewFile(uintptr(fd), path)
	_, err = f.Write(data)
	err = errors.Join(err, f.Close())
	if err == nil {
		err = unix.Renameat(d.fd, fresh, d.fd, name)
	}
	if err != nil {
		_ = unix.Unlinkat(d.fd, fresh, 0)
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// ReadFile returns the content of a regular file of this user, of at most limit bytes. It
// follows no link and doesn't wait for a FIFO.
func (d *Dir) ReadFile(name string, limit int64) ([]byte, error) {
	if err := entry(name); err != nil {
		return nil, err
	}
	fd, err := unix.Openat(d.fd, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return nil, fmt.Errorf("read %s: it is no regular file", name)
	case st.Uid != uint32(os.Geteuid()):
		return nil, fmt.Errorf("read %s: it belongs to uid %d, and this is uid %d", name, st.Uid, os.Geteuid())
	case st.Size > limit:
		return nil, fmt.Errorf("read %s: it has %d bytes, more than %d", name, st.Size, limit)
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("it has grown beyond %d bytes", limit)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return data, nil
}

// Remove removes an entry that isn't a directory. It is no error if there is none.
func (d *Dir) Remove(name string) error {
	if err := entry(name); err != nil {
		return err
	}
	if err := unix.Unlinkat(d.fd, name, 0); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	return nil
}

// Names returns the names of entries with a beginning and an end.
func (d *Dir) Names(prefix, suffix string) ([]string, error) {
	fd, err := unix.Openat(d.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", d.path, err)
	}
	f := os.NewFile(uintptr(fd), d.path)
	defer f.Close()
	entries, err := f.Readdirnames(-1)
	var names []string
	for _, name := range entries {
		if strings.HasPrefix(name, prefix) && strings.HasSuffix(name, suffix) {
			names = append(names, name)
		}
	}
	return names, err
}
