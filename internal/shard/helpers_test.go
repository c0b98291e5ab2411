package shard

import (
	"errors"
	"iter"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/config"
)

// patience bounds every wait for an event that must come.
const patience = 20 * time.Second

// tcp4 and tcp6 return a listener on a free loopback port.
func tcp4(t *testing.T) *config.Listener { return tcpListener(t, "tcp4", "127.0.0.1") }
func tcp6(t *testing.T) *config.Listener { return tcpListener(t, "tcp6", "::1") }

func tcpListener(t *testing.T, network, host string) *config.Listener {
	t.Helper()
	free, err := net.Listen(network, net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer free.Close()
	return &config.Listener{
		Name: "web", Network: network, Address: free.Addr().String(),
		Accept: config.AcceptReuseport, Backlog: 1024,
	}
}

func unixListener(t *testing.T) *config.Listener {
	t.Helper()
	return &config.Listener{
		Name: "local", Network: "unix", Address: filepath.Join(t.TempDir(), "s"),
		Accept: config.AcceptExclusive, Backlog: 16, Mode: 0o660,
	}
}

// newGroup returns an empty group that is removed with the test, which fails if
// it leaves descriptors open.
func newGroup(t *testing.T, l *config.Listener) *Group {
	t.Helper()
	checkFDs(t)
	g, err := NewGroup(l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { must(t, g.Remove()) })
	return g
}

// listening returns a group of n shards that listen.
func listening(t *testing.T, l *config.Listener, n int) *Group {
	t.Helper()
	g := newGroup(t, l)
	must(t, g.Bind(n))
	must(t, g.Listen())
	must(t, g.check())
	return g
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// checkFDs fails the test if more descriptors are open at its end than now.
func checkFDs(t *testing.T) {
	t.Helper()
	before := openFDs(t)
	t.Cleanup(func() {
		if after := openFDs(t); len(after) > len(before) {
			t.Errorf("descriptors before: %v, after: %v", before, after)
		}
	})
}

func openFDs(t *testing.T) map[int]string {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	fds := map[int]string{}
	for _, e := range entries {
		target, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err != nil || strings.HasPrefix(target, "/proc/") || strings.HasPrefix(target, "anon_inode:[event") {
			continue // the directory that was read, and the runtime's poller
		}
		n, _ := strconv.Atoi(e.Name())
		fds[n] = target
	}
	return fds
}

// dial connects to the group and returns the client's end, closed with the test.
func dial(t *testing.T, g *Group) net.Conn {
	t.Helper()
	network := strings.TrimRight(g.addr.network, "46")
	c, err := net.DialTimeout(network, g.addr.String(), patience)
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// refusedAtOnce says whether a connection to the group is refused.
func refusedAtOnce(t *testing.T, g *Group) bool {
	t.Helper()
	c, err := net.DialTimeout(strings.TrimRight(g.addr.network, "46"), g.addr.String(), 500*time.Millisecond)
	if err == nil {
		_ = c.Close()
	}
	return errors.Is(err, unix.ECONNREFUSED)
}

// accept takes one connection from shard i, which has one, and returns its
// descriptor, closed with the test.
func accept(t *testing.T, g *Group, i int) int {
	t.Helper()
	fd := take(t, g, i)
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

// take is accept, but the descriptor is the caller's.
func take(t *testing.T, g *Group, i int) int {
	t.Helper()
	p := []unix.PollFd{{Fd: int32(g.FD(i)), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(p, int(patience/time.Millisecond))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n == 0 {
			t.Fatalf("shard %d: nothing to accept (%v)", i, err)
		}
		break
	}
	fd, _, err := unix.Accept4(g.FD(i), unix.SOCK_CLOEXEC)
	must(t, err)
	return fd
}

func queueLen(t *testing.T, g *Group, i int) int {
	t.Helper()
	n, err := g.QueueLen(i)
	must(t, err)
	return n
}

// lands connects once and returns the shard that it came to, from whose queue
// it is taken.
func lands(t *testing.T, g *Group) int {
	t.Helper()
	c := dial(t, g)
	defer c.Close()
	for i := range g.Listening() {
		if queueLen(t, g, i) > 0 {
			_ = unix.Close(take(t, g, i))
			return i
		}
	}
	t.Fatal("the connection is in no queue")
	return -1
}

// constant is a steering program that always chooses the index i.
func constant(i int) []unix.SockFilter {
	return []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: uint32(i)}}
}

// expectIndexIsSlot asks the kernel for each of its indexes in turn.
func expectIndexIsSlot(t *testing.T, g *Group) {
	t.Helper()
	must(t, g.check())
	for i := range g.Listening() {
		must(t, attach(g.FD(0), unix.SO_ATTACH_REUSEPORT_CBPF, constant(i)))
		if got := lands(t, g); got != i {
			t.Errorf("index %d of %d is slot %d", i, g.Listening(), got)
		}
	}
	must(t, g.Unsteer())
}

// stranger binds a socket that doesn't share its address, as another program has.
func stranger(t *testing.T, l *config.Listener) int {
	t.Helper()
	ap := netip.MustParseAddrPort(l.Address)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	t.Cleanup(func() { _ = unix.Close(fd) })
	must(t, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1))
	must(t, unix.Bind(fd, &unix.SockaddrInet4{Port: int(ap.Port()), Addr: ap.Addr().As4()}))
	return fd
}

// of yields groups.
func of(groups ...*Group) iter.Seq[*Group] { return slices.Values(groups) }
