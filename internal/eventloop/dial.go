package eventloop

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Dialing is how a service's outgoing connections are made; the zero value leaves
// all to the kernel. tcp(7)
type Dialing struct {
	NoDelay bool // TCP_NODELAY
	// TCP_KEEPIDLE, TCP_KEEPINTVL and TCP_KEEPCNT; no keep-alive at all if Idle is 0.
	Idle, Interval time.Duration
	Count          int
}

// SetDialing says how the service's outgoing connections are to be made.
func (s *Service) SetDialing(d Dialing) { s.dialing = d }

// Dial begins to connect. An error is what can be told at once, a unix.Errno; then
// there is no connection. Else the service's handler is told: Opened when it is
// connected, or Closed, with Loop.Cause, if that fails. Until then a timeout may
// run, and nothing is written.
func (l *Loop) Dial(s *Service, to *Address) (*Conn, error) {
	fd, err := unix.Socket(to.family(), unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if to.family() != unix.AF_UNIX {
		if err := s.dialing.apply(fd); err != nil {
			_ = unix.Close(fd)
			return nil, err
		}
	}
	// Never blocks: the socket is non-blocking.
	_, _, errno := unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&to.raw)), uintptr(to.size))
	if errno != 0 && errno != unix.EINPROGRESS {
		_ = unix.Close(fd)
		return nil, errno
	}
	// It is watched for output from the start: that is how a connect ends, whether it
	// has by now or not.
	if err := l.control(unix.EPOLL_CTL_ADD, int32(fd), watchIn|unix.EPOLLOUT, (l.table.at(int32(fd)).gen+1)&^special); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return l.open(int32(fd), s, outgoing|connecting|registered|watchOut), nil
}

func (d *Dialing) apply(fd int) error {
	if d.NoDelay {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
			return err
		}
	}
	if d.Idle == 0 {
		return nil
	}
	for _, o := range [...]struct{ level, name, value int }{
		{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, int(d.Idle / time.Second)},
		{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, int(d.Interval / time.Second)},
		{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, d.Count},
	} {
		if err := unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
			return err
		}
	}
	return nil
}

// connected ends a connect, by the event that came for it.
func (l *Loop) connected(c *Conn, events uint32) {
	defer l.guard(c)
	var errno unix.Errno
	switch {
	case events&unix.EPOLLERR != 0:
		errno = socketError(c.fd)
	case events&unix.EPOLLHUP != 0: // without an error: it was there, and has gone since
		errno = pendingError(c.fd)
	}
	switch {
	case errno != 0:
		l.fail(c, errno)
	case events&unix.EPOLLOUT != 0:
		c.flags &^= connecting
		if events&^unix.EPOLLOUT != 0 {
			c.flags |= readable
		}
		if events&(unix.EPOLLRDHUP|unix.EPOLLHUP) != 0 {
			c.flags |= hangup
		}
		if events&unix.EPOLLHUP != 0 {
			c.flags |= gone
		}
		c.svc.handler.Opened(c)
		l.drive(c)
	}
}

// Outgoing tells whether Dial made the connection.
func (c *Conn) Outgoing() bool { return c.has(outgoing) }

// Connecting tells whether the connection is being made still.
func (c *Conn) Connecting() bool { return c.has(connecting) }

// socketError is pendingError where there must be one: ECONNRESET if there isn't.
func socketError(fd int32) unix.Errno {
	if errno := pendingError(fd); errno != 0 {
		return errno
	}
	return unix.ECONNRESET
}

// pendingError takes the error that waits at a socket, 0 if none does: SO_ERROR,
// socket(7).
func pendingError(fd int32) unix.Errno {
	v, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return unix.ECONNRESET
	}
	return unix.Errno(v)
}
