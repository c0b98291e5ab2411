package eventloop_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/eventloop"
)

// joined is a loop with one pair: a client's connection and one to a server, all of whose
// bytes are passed. closed is told of each end that is closed.
func joined(t *testing.T, closed func(*eventloop.Conn)) (s *server, client, far *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	to := eventloop.AddressOf(netip.MustParseAddrPort(ln.Addr().String()))
	var servers *eventloop.Service
	both := &calls{closed: closed, ended: func(c *eventloop.Conn) {
		if p := c.Partner(); p != nil {
			p.ShutWrite()
		}
	}}
	s = serve(t, config{handler: func(l *eventloop.Loop) eventloop.Handler {
		h := *both
		h.opened = func(u *eventloop.Conn) {
			c := u.State.(*eventloop.Conn)
			l.Join(c, u)
			c.Pass(u, -1)
			u.Pass(c, -1)
		}
		servers = l.NewService(&h, 0)
		return &calls{closed: closed, ended: both.ended, opened: func(c *eventloop.Conn) {
			c.Hold()
			u, err := l.Dial(servers, &to)
			if err != nil {
				t.Error(err)
				return
			}
			u.State = c
		}}
	}})
	t.Cleanup(func() { s.do(s.Cut) })
	client = s.dial()
	c, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(limit))
	return s, client, c.(*net.TCPConn)
}

// A direction goes on while the other one is stuck, and ends.
func TestDirectionsAreIndependent(t *testing.T) {
	s, client, far := joined(t, nil)
	go func() { _, _ = far.ReadFrom(endless{}) }()
	s.until("the way to the client is full", func() bool { return s.Count().BytesOut > 1<<20 })
	sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<18)
	go func() {
		_, _ = client.Write(sent)
		_ = client.CloseWrite()
	}()
	if got, err := io.ReadAll(far); err != nil || !bytes.Equal(got, sent) {
		t.Errorf("%d bytes of %d, %v", len(got), len(sent), err)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// A peer that takes no more output is read to its end all the same, and the cause is
// known.
func TestDeafPeerIsHeard(t *testing.T) {
	cause := make(chan error, 2)
	s, client, far := joined(t, func(c *eventloop.Conn) {
		if c.Outgoing() {
			cause <- c.Loop().Cause()
			c.Partner().Finish(false)
			c.Partner().Wake()
		}
	})
	_, _ = client.Write([]byte("hello"))
	if _, err := io.ReadFull(far, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	answer := bytes.Repeat([]byte("answer"), 5000)
	s.hold(func() { // the client's bytes come first, and can't be delivered
		_, _ = client.Write(bytes.Repeat([]byte("x"), 100<<10))
		_, _ = far.Write(answer)
		raw, _ := far.SyscallConn()
		for n := 1; n > 0; time.Sleep(100 * time.Microsecond) {
			_ = raw.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) })
		}
		reset(far)
	})()
	got := make([]byte, len(answer))
	if n, err := io.ReadFull(client, got); err != nil || !bytes.Equal(got, answer) {
		t.Errorf("%d bytes of %d, %v", n, len(answer), err)
	}
	if err := <-cause; err != unix.ECONNRESET {
		t.Errorf("the cause was %v", err)
	}
}

// A server that has spoken and closed before we look was there all the same. Of Unix
// sockets both directions end then.
func TestDialServerIsQuick(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	to, err := eventloop.UnixAddress(path)
	if err != nil {
		t.Fatal(err)
	}
	var servers *eventloop.Service
	opened, got := 0, make(chan string, 1)
	s := serve(t, config{handler: func(l *eventloop.Loop) eventloop.Handler {
		servers = l.NewService(&calls{
			opened:   func(*eventloop.Conn) { opened++ },
			received: func(_ *eventloop.Conn, in []byte) int { got <- string(in); return len(in) },
		}, 0)
		return &calls{}
	}})
	s.do(func() {
		if _, err := s.Dial(servers, &to); err != nil {
			t.Error(err)
			return
		}
		c, err := ln.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = io.WriteString(c, "bye")
		c.Close()
	})
	s.until("it is closed", func() bool { return s.Open() == 0 })
	if opened != 1 || len(got) != 1 || <-got != "bye" {
		t.Errorf("opened %d times, or something else was heard", opened)
	}
}

// Cut has a cause; what is closed because of it has none of its own.
func TestCauseOfCut(t *testing.T) {
	var causes []unix.Errno
	var local, remote netip.AddrPort
	var unsent int64
	s, client, far := joined(t, func(c *eventloop.Conn) {
		causes = append(causes, c.Loop().Cause())
		if p := c.Partner(); p != nil {
			local, remote = p.Local(), p.Remote()
			c.ResetOnClose()
			p.Abort()
		}
	})
	go func() { _, _ = far.ReadFrom(endless{}) }()
	s.until("the way to the client is full", func() bool { return s.Count().BytesOut > 1<<20 })
	s.do(func() {
		for fd := range 1000 {
			if c := s.Find(fd); c != nil && !c.Outgoing() {
				unsent = c.Unsent()
			}
		}
		s.Cut()
	})
	if len(causes) != 2 || causes[0] != unix.ECANCELED || causes[1] != 0 {
		t.Errorf("closed with %v", causes)
	}
	if unsent < 1 {
		t.Errorf("%d bytes were unsent", unsent)
	}
	if local.Port() == 0 || remote.Port() == 0 {
		t.Errorf("local %v, remote %v", local, remote)
	}
	if _, err := io.Copy(io.Discard, client); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("the client saw %v", err)
	}
}
