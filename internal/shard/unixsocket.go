package shard

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"reuseportd/internal/sockdiag"
)

// bindUnix binds fd to the path with the right permissions from the beginning: nobody can
// connect before listen(2), which comes after chmod(2). It replaces a stale socket file.
func (a *address) bindUnix(fd int) error {
	sa := &unix.SockaddrUnix{Name: a.path}
	err := unix.Bind(fd, sa)
	if errors.Is(err, unix.EADDRINUSE) {
		if err := a.unlinkStale(); err != nil {
			return err
		}
		err = unix.Bind(fd, sa)
	}
	if err != nil {
		return err
	}
	if err = a.chmod(); err == nil {
		err = a.remember()
	}
	if err != nil {
		_ = unix.Unlink(a.path)
	}
	return err
}

func (a *address) chmod() error {
	if err := unix.Chmod(a.path, uint32(a.mode.Perm())); err != nil {
		return fmt.Errorf("chmod %s: %w", a.mode.Perm(), err)
	}
	return nil
}

// unlinkStale removes a socket file that nobody uses any more: it refuses connections, and no socket of
// this network namespace is bound to it. It leaves alone what is no socket, and a socket that answers in
// any other way. If another program removes it at the same time and binds its own, that is noticed at
// listen(2) (Lost).
func (a *address) unlinkStale() error {
	var st unix.Stat_t
	if err := unix.Lstat(a.path, &st); err != nil {
		return fmt.Errorf("lstat: %w", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return fmt.Errorf("%w: the path exists and is no socket; move it away", ErrNotStale)
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	defer unix.Close(fd)
	err = unix.Connect(fd, &unix.SockaddrUnix{Name: a.path})
	switch {
	case err == nil, errors.Is(err, unix.EAGAIN):
		return fmt.Errorf("%w: %w; %s listens there", ErrNotStale, unix.EADDRINUSE, a.listener(fd))
	case !errors.Is(err, unix.ECONNREFUSED):
		return fmt.Errorf("%w: can't tell whether it is in use: connect: %w", ErrNotStale, err)
	}
	if hs := a.holders(); len(hs) > 0 {
		return fmt.Errorf("%w: %w; %s has bound it", ErrNotStale, unix.EADDRINUSE, hs[0])
	}
	if err := unix.Unlink(a.path); err != nil {
		return fmt.Errorf("unlink stale socket: %w", err)
	}
	return nil
}

// listener names the process that listens at the path, if the kernel says so: by
// sock_diag, or for a connection to it.
func (a *address) listener(fd int) string {
	if hs := a.holders(); len(hs) > 0 {
		return hs[0].String()
	}
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil || cred.Pid <= 0 { // 0: a process of another PID namespace
		return "another program"
	}
	return sockdiag.Holder{PID: int(cred.Pid), Command: sockdiag.Command(int(cred.Pid)), Socket: sockdiag.Socket{UID: cred.Uid}}.String()
}

// holders returns the processes that have a socket bound to the file at the path.
func (a *address) holders() []sockdiag.Holder {
	var found []sockdiag.Socket
	if a.eachBound(func(s sockdiag.Socket) { found = append(found, s) }) != nil {
		return nil
	}
	return sockdiag.Holders(found)
}

// eachBound calls f for each socket that is bound to the file at the path.
func (a *address) eachBound(f func(sockdiag.Socket)) error {
	var st unix.Stat_t
	err := unix.Lstat(a.path, &st)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("lstat: %w", err)
	}
	return sockdiag.Unix(func(s sockdiag.Socket) {
		if s.IsFile(&st) {
			f(s)
		}
	})
}

// remember records which file is at the path: the group's own.
func (a *address) remember() error {
	var st unix.Stat_t
	if err := unix.Lstat(a.path, &st); err != nil {
		return fmt.Errorf("lstat: %w", err)
	}
	a.dev, a.ino = uint64(st.Dev), st.Ino
	return nil
}

// Lost reports whether a Unix socket's path is no longer the group's, although Refuse
// wasn't called: its file was removed or replaced, so no client finds it.
func (g *Group) Lost() bool {
	if !g.addr.unix() || g.listening == 0 || g.refused {
		return false
	}
	var st unix.Stat_t
	err := unix.Lstat(g.addr.path, &st)
	return errors.Is(err, unix.ENOENT) || err == nil && (uint64(st.Dev) != g.addr.dev || st.Ino != g.addr.ino)
}

// boundElsewhere reports whether the path names another file than the one that the group's socket
// is bound to, if the kernel tells.
func (g *Group) boundElsewhere() bool {
	cookies, err := g.Cookies()
	if err != nil || len(cookies) == 0 {
		return false
	}
	st := unix.Stat_t{Dev: g.addr.dev, Ino: g.addr.ino}
	found := false
	err = sockdiag.Unix(func(s sockdiag.Socket) {
		if s.Cookie == cookies[0] {
			found = s.SameDevice(&st) && !s.IsFile(&st)
		}
	})
	return found && err == nil
}

// unlinkOwn removes the path, unless another program has put its own file there
// meanwhile. It is no error if there is no file.
func (a *address) unlinkOwn() error {
	var st unix.Stat_t
	err := unix.Lstat(a.path, &st)
	if err == nil && uint64(st.Dev) == a.dev && st.Ino == a.ino {
		err = unix.Unlink(a.path)
	}
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unlink: %w", err)
	}
	return nil
}
