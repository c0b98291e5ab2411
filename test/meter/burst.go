package meter

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// burst starts Burst connects at once, waits for all, sends one request on
// each, and reads the answers in turn; then it pauses. Every other burst asks
// the server to close.
//
// It uses descriptors of its own instead of net.Conn: 400 dialing goroutines
// would neither start at once nor see when a connect was done.
func (m *Meter) burst(ctx context.Context, t *tally, _ int) {
	sa, family, err := m.sockaddr(m.cfg.HTTP)
	if err != nil {
		t.lost(nil, &fault{Connect, err}, 1)
		return
	}
	for n := 0; ctx.Err() == nil; n++ {
		conns := m.connectAll(t, family, sa, m.cfg.Burst)
		m.askAll(t, conns, n%2 == 1)
		for _, c := range conns {
			_ = unix.Close(c.fd)
		}
		sleep(ctx, m.cfg.BurstPause)
	}
}

// rawConn is one connection of a burst; its Read waits for the deadline.
type rawConn struct {
	fd       int
	began    time.Time
	deadline time.Time
	again    bool // a Unix listener's queue was full: connect anew
	over     bool // it failed, or was ended by the server
}

func (c *rawConn) local() net.Addr {
	sa, err := unix.Getsockname(c.fd)
	if err != nil {
		return nil
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return &net.TCPAddr{IP: sa.Addr[:], Port: sa.Port}
	case *unix.SockaddrInet6:
		return &net.TCPAddr{IP: sa.Addr[:], Port: sa.Port}
	}
	return nil
}

// connectAll starts n connects and returns when each is made or failed. It
// reports the failed ones and returns the rest.
func (m *Meter) connectAll(t *tally, family int, sa unix.Sockaddr, n int) []*rawConn {
	var conns []*rawConn
	for range n {
		fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err == nil && family == unix.AF_INET {
			err = m.bindSource(fd)
		}
		if err != nil {
			t.lost(nil, &fault{Connect, err}, 1)
			continue
		}
		now := time.Now()
		c := &rawConn{fd: fd, began: now, deadline: now.Add(m.cfg.Timeout)}
		conns = append(conns, c)
		m.connect(t, c, sa)
	}
	for pending := conns; ; {
		pending = m.awaitConnects(t, pending, sa)
		if len(pending) == 0 {
			break
		}
	}
	return withoutThoseOver(conns)
}

// withoutThoseOver closes the connections that are over, and returns the others.
func withoutThoseOver(conns []*rawConn) []*rawConn {
	return slices.DeleteFunc(conns, func(c *rawConn) bool {
		if c.over {
			_ = unix.Close(c.fd)
		}
		return c.over
	})
}

func (m *Meter) bindSource(fd int) error {
	a, ok := m.source.next(m.cfg.HTTP).(*net.TCPAddr)
	if !ok {
		return nil
	}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
		return fmt.Errorf("setsockopt IP_BIND_ADDRESS_NO_PORT: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte(a.IP.To4())}); err != nil {
		return fmt.Errorf("bind %v: %w", a, err)
	}
	return nil
}

func (m *Meter) connect(t *tally, c *rawConn, sa unix.Sockaddr) {
	c.again = false
	switch err := unix.Connect(c.fd, sa); {
	case err == nil, errors.Is(err, unix.EINPROGRESS):
	case errors.Is(err, unix.EAGAIN):
		c.again = true
	default:
		c.fail(t, &fault{Connect, os.NewSyscallError("connect", err)})
	}
}

func (c *rawConn) fail(t *tally, err error) {
	c.over = true
	t.lost(c.local(), err, 1)
}

// awaitConnects waits for some of the connects and returns those still open.
func (m *Meter) awaitConnects(t *tally, pending []*rawConn, sa unix.Sockaddr) []*rawConn {
	fds := make([]unix.PollFd, 0, len(pending))
	for _, c := range pending {
		fd := c.fd
		if c.again || c.over {
			fd = -1 // poll(2) passes over it
		}
		fds = append(fds, unix.PollFd{Fd: int32(fd), Events: unix.POLLOUT})
	}
	if _, err := unix.Poll(fds, 10); err != nil && !errors.Is(err, unix.EINTR) {
		clear(fds)
	}
	now := time.Now()
	var rest []*rawConn
	for i, c := range pending {
		switch {
		case c.over:
		case fds[i].Revents != 0:
			if errno, _ := unix.GetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_ERROR); errno != 0 {
				c.fail(t, &fault{Connect, os.NewSyscallError("connect", unix.Errno(errno))})
				continue
			}
			t.connected(now.Sub(c.began))
		case now.After(c.deadline):
			c.fail(t, &fault{Connect, os.ErrDeadlineExceeded})
		default:
			if c.again {
				m.connect(t, c, sa)
			}
			rest = append(rest, c)
		}
	}
	return rest
}

// askAll sends one request on each connection and then reads the answers in turn.
func (m *Meter) askAll(t *tally, conns []*rawConn, last bool) {
	path := m.cfg.Paths[0]
	request := m.request(path, last)
	for _, c := range conns {
		c.began = time.Now()
		c.deadline = c.began.Add(m.cfg.Timeout)
		// So short a write to an empty socket is taken whole.
		if n, err := unix.SendmsgN(c.fd, request, nil, nil, unix.MSG_NOSIGNAL); err != nil {
			c.fail(t, &fault{Write, os.NewSyscallError("send", err)})
		} else if n < len(request) {
			c.fail(t, &fault{Write, io.ErrShortWrite})
		}
	}
	r := bufio.NewReaderSize(nil, 1024)
	for _, c := range conns {
		if c.over {
			continue
		}
		r.Reset(c)
		a, err := readAnswer(r)
		if err == nil {
			err = m.judge(path, a)
		}
		if err == nil {
			t.answered(time.Since(c.began))
			c.over = a.close
			if a.close && !last {
				err = t.ended()
			}
		}
		if err != nil {
			c.fail(t, err)
		}
	}
}

// Read implements io.Reader.
func (c *rawConn) Read(b []byte) (int, error) {
	for {
		n, err := unix.Read(c.fd, b)
		switch {
		case n > 0:
			return n, nil
		case err == nil:
			return 0, io.EOF
		case errors.Is(err, unix.EAGAIN):
			left := time.Until(c.deadline)
			if left <= 0 {
				return 0, os.ErrDeadlineExceeded
			}
			fds := []unix.PollFd{{Fd: int32(c.fd), Events: unix.POLLIN}}
			_, _ = unix.Poll(fds, int(left.Milliseconds())+1) // the next read tells
		case !errors.Is(err, unix.EINTR):
			return 0, os.NewSyscallError("read", err)
		}
	}
}

// sockaddr turns an address of Config into the kernel's form.
func (m *Meter) sockaddr(address string) (unix.Sockaddr, int, error) {
	network, addr := splitAddress(address)
	if network == "unix" {
		return &unix.SockaddrUnix{Name: addr}, unix.AF_UNIX, nil
	}
	a, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		return nil, 0, err
	}
	if ip := a.IP.To4(); ip != nil {
		return &unix.SockaddrInet4{Port: a.Port, Addr: [4]byte(ip)}, unix.AF_INET, nil
	}
	return &unix.SockaddrInet6{Port: a.Port, Addr: [16]byte(a.IP.To16())}, unix.AF_INET6, nil
}
