package meter

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// idleBatch is how many idle connections are opened, or asked, at once.
const idleBatch = 100

// openIdle opens the idle connections and asks once on each.
//
// They are bare descriptors, as those of a burst are: the race detector allows
// 8128 goroutines, which is less than the connections that are wanted.
func (m *Meter) openIdle(ctx context.Context) {
	if m.cfg.Idle == 0 {
		return
	}
	t := m.tally(Idle)
	sa, family, err := m.sockaddr(m.cfg.HTTP)
	if err != nil {
		t.lost(nil, &fault{Connect, err}, m.cfg.Idle)
		return
	}
	for left := m.cfg.Idle; left > 0 && ctx.Err() == nil; left -= idleBatch {
		next := time.Now().Add(idleBatch * time.Second / maxRate)
		conns := m.connectAll(t, family, sa, min(left, idleBatch))
		m.askAll(t, conns, false)
		m.silent = append(m.silent, withoutThoseOver(conns)...)
		sleep(ctx, time.Until(next))
	}
}

// idle checks that the connections stay open, and that the server sends nothing on them.
// At the end it makes one more request on each.
func (m *Meter) idle(ctx context.Context, t *tally, _ int) {
	if err := watch(ctx, t, m.silent); err != nil {
		t.lost(nil, &fault{Pause, err}, len(m.silent))
	}
	m.silent = withoutThoseOver(m.silent)
	for batch := range slices.Chunk(m.silent, idleBatch) {
		m.askAll(t, batch, false)
	}
	for _, c := range m.silent {
		_ = unix.Close(c.fd)
	}
}

// watch returns at the end of ctx. A connection that becomes readable before is
// lost.
func watch(ctx context.Context, t *tally, conns []*rawConn) error {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("epoll_create1", err)
	}
	defer unix.Close(ep)
	for i, c := range conns {
		ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLONESHOT, Fd: int32(i)}
		if err := unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, c.fd, &ev); err != nil {
			return os.NewSyscallError("epoll_ctl", err)
		}
	}
	const slice = 100 // milliseconds, after which ctx is looked at
	events := make([]unix.EpollEvent, 256)
	for ctx.Err() == nil {
		n, err := unix.EpollWait(ep, events, slice)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("epoll_wait", err)
		}
		for _, ev := range events[:max(n, 0)] {
			c := conns[ev.Fd]
			c.fail(t, &fault{Pause, c.broken()})
		}
	}
	return nil
}

// broken returns why a connection on which nothing should happen is readable.
func (c *rawConn) broken() error {
	var b [1]byte
	switch n, err := unix.Read(c.fd, b[:]); {
	case err != nil:
		return os.NewSyscallError("read", err)
	case n == 0:
		return io.EOF
	}
	return errUnasked
}
