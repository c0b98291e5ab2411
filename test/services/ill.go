package services

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/test/harness"
)

// Ill is a TCP server that mistreats each connection, as treat does.
type Ill struct {
	Accepted, Open atomic.Int64
	listener       *net.TCPListener
	mu             sync.Mutex
	conns          map[*net.TCPConn]bool
	treating       sync.WaitGroup
}

// StartIll serves until the test ends. A connection is closed when treat returns.
func StartIll(t testing.TB, treat func(c *net.TCPConn)) *Ill {
	t.Helper()
	return StartIllAt(t, "127.0.0.1:0", treat)
}

// StartIllAt is StartIll at an address.
func StartIllAt(t testing.TB, address string, treat func(c *net.TCPConn)) *Ill {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	s := &Ill{listener: l.(*net.TCPListener), conns: make(map[*net.TCPConn]bool)}
	s.treating.Go(func() {
		for {
			c, err := s.listener.AcceptTCP()
			if err != nil {
				return
			}
			s.Accepted.Add(1)
			s.Open.Add(1)
			s.keep(c, true)
			s.treating.Go(func() {
				treat(c)
				c.Close()
				s.keep(c, false)
				s.Open.Add(-1)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		s.mu.Lock()
		for c := range s.conns {
			c.Close()
		}
		s.mu.Unlock()
		s.treating.Wait()
	})
	return s
}

func (s *Ill) keep(c *net.TCPConn, on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if on {
		s.conns[c] = true
	} else {
		delete(s.conns, c)
	}
}

// Address is where it listens.
func (s *Ill) Address() string { return s.listener.Addr().String() }

// BlackHole is an address at which a connect gets no answer: a listening socket
// whose queue is full, so that the kernel drops each SYN.
func BlackHole(t testing.TB) string {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	err = unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	if err == nil {
		err = unix.Listen(fd, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", name.(*unix.SockaddrInet4).Port)
	for range 10 {
		c, err := net.DialTimeout("tcp", address, 200*time.Millisecond)
		if err != nil {
			return address // the queue is full
		}
		t.Cleanup(func() { c.Close() })
	}
	t.Fatal("the queue of a listening socket doesn't get full")
	return ""
}

// Nobody returns an address at which nobody listens.
func Nobody(t testing.TB) string { return harness.Local(t) }

// What servers do with a connection.

// after has a server read the head of a request first.
func after(do func(c *net.TCPConn)) func(*net.TCPConn) {
	return func(c *net.TCPConn) {
		for s := bufio.NewScanner(c); s.Scan() && s.Text() != ""; {
		}
		do(c)
	}
}

// says writes a text, and ends well.
func says(text string) func(*net.TCPConn) {
	return func(c *net.TCPConn) {
		_, _ = c.Write([]byte(text)) // the other end may have gone
	}
}

// resets writes a text and ends with a reset.
func resets(text string) func(*net.TCPConn) {
	return func(c *net.TCPConn) {
		_, _ = c.Write([]byte(text))
		if text != "" {
			time.Sleep(20 * time.Millisecond) // a reset would overtake it
		}
		_ = c.SetLinger(0)
	}
}

// then writes a text, and writes and reads no more until the other end is closed.
func then(text string) func(*net.TCPConn) {
	return func(c *net.TCPConn) {
		_, _ = c.Write([]byte(text))
		waitGone(c)
	}
}

// waitGone returns when the other end has closed or reset c, without reading from
// it.
func waitGone(c *net.TCPConn) {
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	for {
		gone := false
		if raw.Control(func(fd uintptr) {
			p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
			_, _ = unix.Poll(p, 100)
			gone = p[0].Revents != 0
		}) != nil || gone {
			return
		}
	}
}

// floods writes a text, and then other text without end.
func floods(text, more string) func(*net.TCPConn) {
	return func(c *net.TCPConn) {
		_, err := c.Write([]byte(text))
		for block := []byte(strings.Repeat(more, 1+64<<10/len(more))); err == nil; {
			_, err = c.Write(block)
		}
	}
}
