package control

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"reuseportd/internal/rundir"
)

// SocketName is the control socket's name in the runtime directory.
const SocketName = "control.sock"

// PIDFile is the name of the file in the runtime directory that holds the master's
// process ID.
const PIDFile = "reuseportd.pid"

// SocketPath returns the control socket of the master that uses dir.
func SocketPath(dir string) string { return filepath.Join(dir, SocketName) }

// Listen makes the control socket in dir, mode 0600, in place of one that a dead master
// left. The caller must hold the directory's lock, which shows that the master that left
// the socket is dead.
//
// Since the lock's file can be removed, a socket at which this user or root listens is
// left alone even so.
func Listen(dir *rundir.Dir) (*net.UnixListener, error) {
	if pid, alive := listening(dir); alive {
		return nil, fmt.Errorf("control socket %s: process %d listens there and is alive (%s), though the directory's lock was free: "+
			"use `reuseportd reload` or `reuseportd stop`, or give this instance a --runtime-dir of its own",
			SocketPath(dir.Path()), pid, describe(pid))
	}
	fd, err := dir.Bind(SocketName, unix.SOCK_STREAM)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	if err := unix.Listen(fd, maxClients); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("control socket %s: listen: %w", SocketPath(dir.Path()), err)
	}
	return FromFD(fd)
}

// listening reports whether a process that may be this service's master listens at the
// control socket, and which.
func listening(dir *rundir.Dir) (pid int, alive bool) {
	conn, pid, err := connect(dir)
	if err != nil {
		return writtenPID(dir), errors.Is(err, unix.EAGAIN) // its queue is full
	}
	cred, err := peerCred(conn)
	_ = conn.Close()
	return pid, err == nil && (cred.Uid == 0 || int(cred.Uid) == os.Geteuid())
}

// FromFD makes a listener from a descriptor that an earlier master passed on. It takes
// over fd, and closes it if it fails.
func FromFD(fd int) (*net.UnixListener, error) {
	f := os.NewFile(uintptr(fd), SocketName)
	if f == nil {
		return nil, fmt.Errorf("take the control socket: %d is no descriptor", fd)
	}
	defer f.Close() // net.FileListener duplicates it
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("take the control socket: %w", err)
	}
	ul, ok := l.(*net.UnixListener)
	if !ok {
		l.Close()
		return nil, fmt.Errorf("take the control socket: descriptor %d is a %s socket", fd, l.Addr().Network())
	}
	ul.SetUnlinkOnClose(false)
	return ul, nil
}

// ownListener makes the kernel name this process to clients (SO_PEERCRED, unix(7)),
// instead of the master that listened first.
func ownListener(l *net.UnixListener) error {
	raw, err := l.SyscallConn()
	if err != nil {
		return err
	}
	var lerr error
	if err := raw.Control(func(fd uintptr) { lerr = unix.Listen(int(fd), maxClients) }); err != nil {
		return err
	}
	return lerr
}

// Dup returns a duplicate of l's descriptor, close-on-exec, for the next
// master. Unlike (*net.UnixListener).File and Fd it leaves O_NONBLOCK, which
// all duplicates share, as it is.
func Dup(l *net.UnixListener) (int, error) {
	raw, err := l.SyscallConn()
	if err != nil {
		return -1, fmt.Errorf("duplicate the control socket: %w", err)
	}
	fd := -1
	var dupErr error
	if err := raw.Control(func(s uintptr) { fd, dupErr = unix.FcntlInt(s, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
		return -1, fmt.Errorf("duplicate the control socket: %w", err)
	}
	if dupErr != nil {
		return -1, fmt.Errorf("duplicate the control socket: %w", dupErr)
	}
	return fd, nil
}
