package eventloop_test

import (
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/eventloop"
)

// proxy makes a handler that joins each client to a connection of its own to a server.
// failed is told of those that could not be made.
func proxy(l *eventloop.Loop, to *eventloop.Address, failed func(unix.Errno)) *mover {
	closed := func(c *eventloop.Conn) {
		switch p := c.Partner(); {
		case p == nil:
		case l.Cause() != 0:
			p.Abort()
		default:
			p.Close()
		}
	}
	ended := func(c *eventloop.Conn) {
		p := c.Partner()
		p.ShutWrite()
		if p.HasEnded() {
			c.Finish(false)
			p.Finish(false)
		}
	}
	var servers *eventloop.Service
	clients := &mover{kind: "client", calls: calls{
		opened: func(c *eventloop.Conn) {
			c.Hold()
			u, err := l.Dial(servers, to)
			if err != nil {
				failed(err.(unix.Errno))
				c.Close()
				return
			}
			u.State = c
			c.SetBusy(true)
		},
		ended:  ended,
		closed: closed,
	}}
	servers = l.NewService(&mover{kind: "server", calls: calls{
		opened: func(u *eventloop.Conn) {
			c := u.State.(*eventloop.Conn)
			u.State = nil
			l.Join(c, u)
			c.Pass(u, -1)
			u.Pass(c, -1)
			c.SetBusy(false)
			u.KeepAlive(eventloop.Keepalive{Idle: time.Minute, Interval: time.Second, Count: 3})
		},
		ended: ended,
		closed: func(u *eventloop.Conn) {
			if c, ok := u.State.(*eventloop.Conn); ok { // never opened
				failed(l.Cause())
				c.Close()
				return
			}
			closed(u)
		},
		timedOut: func(u *eventloop.Conn) { u.Close() },
	}}, 0)
	servers.SetNoDelay(true)
	upstreams[l] = servers
	return clients
}

// upstreams has the service of each proxy's outgoing connections.
var upstreams = map[*eventloop.Loop]*eventloop.Service{}

// backend accepts connections and hands them out.
type backend struct {
	net.Listener
	addr eventloop.Address
}

func newBackend(t testing.TB) *backend {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return &backend{ln, eventloop.AddressOf(netip.MustParseAddrPort(ln.Addr().String()))}
}

func (b *backend) accept(t testing.TB) *net.TCPConn {
	t.Helper()
	c, err := b.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(limit))
	return c.(*net.TCPConn)
}

// proxied is a proxy in front of a backend, with one pair through it.
func proxied(t *testing.T) (s *server, client, far *net.TCPConn) {
	t.Helper()
	b := newBackend(t)
	s = serve(t, config{handler: func(l *eventloop.Loop) eventloop.Handler {
		h := proxy(l, &b.addr, func(e unix.Errno) { t.Errorf("connect: %v", e) })
		return h
	}})
	t.Cleanup(func() { s.do(s.Cut) })
	client = s.dial()
	return s, client, b.accept(t)
}

// through sends bytes and their end, and returns what comes out at the other side.
func through(t *testing.T, from, to *net.TCPConn, p []byte) []byte {
	t.Helper()
	go func() {
		_, _ = from.Write(p)
		_ = from.CloseWrite()
	}()
	got, err := io.ReadAll(to)
	if err != nil {
		t.Error(err)
	}
	return got
}
