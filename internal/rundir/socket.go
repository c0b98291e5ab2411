package rundir

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Bind makes a Unix socket of a type (unix.SOCK_…) at a name, which only this user can
// reach, replacing a socket of that name. It doesn't listen.
func (d *Dir) Bind(name string, typ int) (int, error) {
	if err := d.removeSocket(name); err != nil {
		return -1, fmt.Errorf("make the socket %s: %w", name, err)
	}
	fd, err := d.socket(name, typ, func(fd int, sa unix.Sockaddr) error {
		if err := unix.Fchmod(fd, 0o600); err != nil { // bind(2) takes the file's mode from the socket
			return err
		}
		return unix.Bind(fd, sa)
	})
	if err != nil {
		return -1, fmt.Errorf("make the socket %s: %w", name, err)
	}
	return fd, nil
}

// removeSocket removes a socket, and nothing else.
func (d *Dir) removeSocket(name string) error {
	if err := entry(name); err != nil {
		return err
	}
	var st unix.Stat_t
	err := unix.Fstatat(d.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	switch {
	case err == unix.ENOENT:
		return nil
	case err != nil:
		return err
	case st.Mode&unix.S_IFMT != unix.S_IFSOCK:
		return fmt.Errorf("%s is in the way and is no socket", filepath.Join(d.path, name))
	}
	return d.Remove(name)
}

// Connect connects to the socket at a name, without waiting.
func (d *Dir) Connect(name string, typ int) (int, error) {
	fd, err := d.socket(name, typ, unix.Connect)
	if err != nil {
		return -1, fmt.Errorf("connect to %s: %w", name, err)
	}
	return fd, nil
}

// socket makes a socket and calls f with the address of a name. The address goes through
// the directory's descriptor (/proc/thread-self/fd), since no system call binds relative to a
// descriptor, and the directory's path may be too long for a socket.
func (d *Dir) socket(name string, typ int, f func(fd int, sa unix.Sockaddr) error) (int, error) {
	if err := entry(name); err != nil {
		return -1, err
	}
	fd, err := unix.Socket(unix.AF_UNIX, typ|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	err = f(fd, &unix.SockaddrUnix{Name: fmt.Sprintf("/proc/thread-self/fd/%d/%s", d.fd, name)})
	if err == unix.ENOENT {
		if _, perr := os.Stat("/proc/thread-self/fd"); perr != nil {
			err = fmt.Errorf("/proc is not mounted: %w", err)
		}
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}
