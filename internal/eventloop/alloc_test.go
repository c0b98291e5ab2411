package eventloop_test

import (
	"testing"

	"golang.org/x/sys/unix"

	"reuseportd/internal/eventloop"
)

// client is a blocking socket without package net, which would allocate.
type client struct {
	t    testing.TB
	fd   int
	addr unix.Sockaddr
	buf  [1]byte
}

func newClient(t testing.TB, s *server) *client {
	t.Helper()
	addr, err := unix.Getsockname(s.fd)
	if err != nil {
		t.Fatal(err)
	}
	return &client{t: t, fd: -1, addr: addr}
}

func (c *client) connect() {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		c.t.Fatal(err)
	}
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	if err := unix.Connect(fd, c.addr); err != nil {
		c.t.Fatal(err)
	}
	c.fd = fd
}

// ping has one byte echoed.
func (c *client) ping() {
	for {
		if n, err := unix.Write(c.fd, c.buf[:]); n == 1 {
			break
		} else if err != unix.EINTR {
			c.t.Fatal(n, err)
		}
	}
	for {
		if n, err := unix.Read(c.fd, c.buf[:]); n == 1 {
			return
		} else if err != unix.EINTR {
			c.t.Fatal(n, err)
		}
	}
}

func (c *client) close() { _ = unix.Close(c.fd) }

// What the loop holds after a warm-up is enough for what follows: requests on a
// kept connection and whole connections.
func TestAllocatesNothing(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector allocates")
	}
	_, word := sharedWord(t)
	for name, c := range map[string]config{
		"alone": {}, "exclusive": {sharing: exclusive}, "mutex": {sharing: eventloop.Sharing{Mutex: word}},
		"told": {Options: eventloop.Options{Load: new(eventloop.Load)}},
	} {
		t.Run(name, func(t *testing.T) {
			s := echoServer(t, c)
			c := newClient(t, s)
			c.connect()
			if n := testing.AllocsPerRun(2000, c.ping); n != 0 {
				t.Errorf("%v allocations for a request", n)
			}
			c.close()
			if n := testing.AllocsPerRun(2000, func() {
				c.connect()
				c.ping()
				c.close()
			}); n != 0 {
				t.Errorf("%v allocations for a connection", n)
			}
		})
	}
}

// A million idle connections are a million of these.
func TestConnSize(t *testing.T) {
	if eventloop.ConnSize > 112 {
		t.Errorf("a connection is %d bytes", eventloop.ConnSize)
	}
}

// BenchmarkPing is one request at a time: a turn of the loop and two switches.
func BenchmarkPing(b *testing.B) {
	s := echoServer(b, config{})
	c := newClient(b, s)
	c.connect()
	defer c.close()
	b.ReportAllocs()
	for b.Loop() {
		c.ping()
	}
}

// BenchmarkPipeline has 64 connections each with a request before any answer is
// read: what a turn costs when it serves many.
func BenchmarkPipeline(b *testing.B) {
	s := echoServer(b, config{})
	var cs [64]*client
	for i := range cs {
		cs[i] = newClient(b, s)
		cs[i].connect()
		defer cs[i].close()
	}
	b.ReportAllocs()
	for b.Loop() {
		for _, c := range cs {
			_, _ = unix.Write(c.fd, c.buf[:])
		}
		for _, c := range cs {
			_, _ = unix.Read(c.fd, c.buf[:])
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(cs)), "ns/request")
}

// BenchmarkConnection is connect, one request, close.
func BenchmarkConnection(b *testing.B) {
	s := echoServer(b, config{})
	c := newClient(b, s)
	b.ReportAllocs()
	for b.Loop() {
		c.connect()
		c.ping()
		c.close()
	}
}
