package tcp_test

import (
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/config"
	"reuseportd/internal/eventloop"
	"reuseportd/internal/upstream"
)

// hello sends something and expects it back.
func hello(t testing.TB, c net.Conn) {
	t.Helper()
	_, _ = io.WriteString(c, "hello")
	buf := make([]byte, 5)
	if _, err := io.ReadFull(c, buf); err != nil || string(buf) != "hello" {
		t.Fatalf("%q, %v", buf, err)
	}
}

// turnedAway expects that a client is closed at once, and not in order.
func (p *proxy) turnedAway(t testing.TB) {
	t.Helper()
	c, err := net.Dial(p.network, p.addr)
	n := 0
	if err == nil { // else it was so fast
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		if _, err = io.WriteString(c, "hello"); err == nil {
			n, err = c.Read(make([]byte, 1))
		}
	}
	if n != 0 || p.network == "tcp" && !errors.Is(err, unix.ECONNRESET) || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read %d bytes, %v", n, err)
	}
}

// A server that refuses is passed over, and told of.
func TestRetry(t *testing.T) {
	down := config.Server{Network: "unix", Address: t.TempDir() + "/none", Weight: 1}
	for reason, bad := range map[string]config.Server{"connection refused": refusing(t), "no such socket": down} {
		t.Run(reason, func(t *testing.T) {
			p := start(t, "tcp", nil, bad, listen(t, "tcp", echo).address())
			for range 4 {
				c := p.dial(t)
				hello(t, c)
				c.Close()
			}
			shown := bad.Address
			if bad.Network == "unix" {
				shown = "unix:" + shown
			}
			if got := p.told(); len(got) == 0 || got[0] != shown+" "+reason {
				t.Errorf("told: %q", got)
			}
			p.empty(t)
		})
	}
}

// When no server can be reached clients are closed at once, on either kind of socket.
func TestAllDown(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			p := start(t, network, nil, refusing(t), refusing(t))
			for range 3 {
				p.turnedAway(t)
			}
			p.empty(t)
			// Each server, and that no other was left: the rest within a second.
			if got := p.told(); len(got) != 3 {
				t.Errorf("told: %q", got)
			}
			if n := p.pool.sum().Failures[upstream.Refused]; n != 6 {
				t.Errorf("counted %d refused connects", n)
			}
		})
	}
}

// After the configured attempts it is enough, even if servers are left.
func TestRetriesEnd(t *testing.T) {
	p := start(t, "tcp", func(_ *config.TCP, u *config.Upstream) { u.Retries = 1 },
		refusing(t), refusing(t), listen(t, "tcp", echo).address())
	p.turnedAway(t)
	hello(t, p.dial(t)) // it is the third one's turn
}

// blackHole is a server that never answers: its queue is full.
func blackHole(t testing.TB) config.Server {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	addr := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: sa.(*unix.SockaddrInet4).Port}
	c, err := net.DialTCP("tcp", nil, addr) // all that the queue holds
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return config.Server{Network: "tcp", Address: addr.String(), Weight: 1}
}

// A server that doesn't answer in time is passed over.
func TestConnectTimeout(t *testing.T) {
	hole := blackHole(t)
	p := start(t, "tcp", func(_ *config.TCP, u *config.Upstream) { u.ConnectTimeout = 50 * time.Millisecond },
		hole, listen(t, "tcp", echo).address())
	begin := time.Now()
	hello(t, p.dial(t))
	if d := time.Since(begin); d < 50*time.Millisecond {
		t.Errorf("it took %v", d)
	}
	if got := p.told(); !slices.Equal(got, []string{hole.Address + " connect timed out"}) {
		t.Errorf("told: %q", got)
	}
}

// A client that gives up while a server is sought takes its attempt with it.
func TestClientLeavesWhileConnecting(t *testing.T) {
	p := start(t, "tcp", nil, blackHole(t))
	c := p.dial(t)
	p.waitFor(t, "an attempt", func(k eventloop.Counters) bool { return k.UpstreamOpen == 1 })
	reset(c)
	p.empty(t)
	if got := p.told(); got != nil {
		t.Errorf("told: %q", got)
	}
}

// What a client sent before its server was reached is not lost, nor that it has ended.
func TestEarlyBytes(t *testing.T) {
	p := start(t, "tcp", func(_ *config.TCP, u *config.Upstream) { u.ConnectTimeout = 50 * time.Millisecond },
		blackHole(t), listen(t, "tcp", echo).address())
	c := p.dial(t)
	_, _ = io.WriteString(c, "early")
	closeWrite(c)
	if got, err := io.ReadAll(c); err != nil || string(got) != "early" {
		t.Errorf("%q, %v", got, err)
	}
	p.empty(t)
}
