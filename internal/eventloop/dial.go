package eventloop

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// SetNoDelay has the service's outgoing connections made with TCP_NODELAY, tcp(7).
func (s *Service) SetNoDelay(on bool) { s.noDelay = on }

// Keepalive is when the kernel asks whether an idle peer is still there: TCP_KEEPIDLE,
// TCP_KEEPINTVL and TCP_KEEPCNT, tcp(7), in whole seconds.
type Keepalive struct {
	Idle, Interval time.Duration
	Count          int
}

// KeepAlive turns TCP's keep-alive on. It takes four system calls, and nothing happens
// before Idle has passed: what may be over by then can wait with it.
func (c *Conn) KeepAlive(k Keepalive) {
	for _, o := range [...]struct{ level, name, value int }{
		{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, int(k.Idle / time.Second)},
		{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, int(k.Interval / time.Second)},
		{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, k.Count},
	} {
		if unix.SetsockoptInt(int(c.fd), o.level, o.name, o.value) != nil {
			return // a Unix socket, or one that is gone
		}
	}
}

// Dial begins to connect. An error is what can be told at once, a unix.Errno; then
// there is no connection. Else the service's handler is told: Opened when it is
// connected, or Closed, with Loop.Cause, if that fails. Until then a timeout may
// run, and nothing is written.
func (l *Loop) Dial(s *Service, to *Address) (*Conn, error) {
	if l.budget.claim(1, forServers) == 0 {
		l.count.NoRoom++
		l.owed++
		l.budget.ask(l)
		return nil, unix.EMFILE
	}
	c, err := l.dial(s, to)
	if err != nil {
		l.budget.give(1)
		return nil, err
	}
	l.owed++
	return c, nil
}

func (l *Loop) dial(s *Service, to *Address) (*Conn, error) {
	fd, err := unix.Socket(to.family(), unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		if err == unix.EMFILE {
			l.budget.Refresh()
		}
		return nil, err
	}
	if s.noDelay && to.family() != unix.AF_UNIX {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
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
	c := l.open(int32(fd), s, dialing|outgoing|registered|watchOut)
	if s.transports != nil && !s.either {
		l.seal(c, s.transports.New(c))
	}
	return c, nil
}

// connected ends a connect, if epoll has said how it went, and goes on with the handshake of a transport.
func (l *Loop) connected(c *Conn) {
	if !c.has(answered) {
		return
	}
	defer l.guard(c)
	if c.has(gone) { // or it was there, and has gone since
		if errno := pendingError(c.fd); errno != 0 {
			l.end(c, wayClosed, errno)
			return
		}
	}
	l.done += connectWork
	if c.has(sealed) && !l.shaken(c) {
		return
	}
	c.become(serving)
	c.flags &^= answered
	c.svc.handler.Opened(c)
	l.drive(c)
}

// shaken goes on with a handshake, and reports whether the handler can have the connection.
func (l *Loop) shaken(c *Conn) bool {
	done := l.shake(c)
	if c.has(open) {
		l.settle(c)
	}
	if !done {
		return false
	}
	c.flags |= readable // records may have come behind it
	if c.has(outgoing) {
		return true
	}
	c.SetTimeout(0)
	c.become(serving)
	if l.moving {
		l.leave(c)
	}
	return true
}

// Outgoing reports whether Dial made the connection.
func (c *Conn) Outgoing() bool { return c.has(outgoing) }

// Connecting reports whether the connection is being made still, or was when it was closed.
func (c *Conn) Connecting() bool { return c.has(dialing) || !c.has(open) && c.has(missed) }

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
