package echo_test

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"reuseportd/internal/eventloop"
	"reuseportd/internal/service/echo"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve runs a loop with an echo service until the test ends and connects to it.
func serve(t *testing.T, idle time.Duration) *net.TCPConn {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 16); err != nil {
		t.Fatal(err)
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	l, err := eventloop.New(eventloop.Options{})
	if err != nil {
		t.Fatal(err)
	}
	l.Post(func() {
		if _, err := l.Listen(fd, l.NewService(echo.New(l, idle), 0), eventloop.Sharing{}); err != nil {
			t.Error(err)
		}
	})
	done := make(chan error, 1)
	go func() { done <- l.Run() }()
	t.Cleanup(func() {
		l.Post(l.Stop)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	c, err := net.DialTCP("tcp", nil, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: sa.(*unix.SockaddrInet4).Port})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	return c
}

// A client that shuts its side gets all of its bytes back, more than the sockets
// hold, and then the end.
func TestHalfClose(t *testing.T) {
	c := serve(t, 0)
	sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<18)
	go func() {
		_, _ = c.Write(sent)
		_ = c.CloseWrite()
	}()
	if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, sent) {
		t.Errorf("got %d bytes back of %d, error %v", len(got), len(sent), err)
	}
}

// A connection on which nothing moves is ended, and without RST.
func TestIdleTimeout(t *testing.T) {
	const idle = 50 * time.Millisecond
	begin := time.Now()
	c := serve(t, idle)
	if _, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
	if d := time.Since(begin); d < idle {
		t.Errorf("ended after %v", d)
	}
}
