package shard

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"reuseportd/internal/config"
)

func TestBoundShardGetsNothing(t *testing.T) {
	g := newGroup(t, tcp4(t))
	must(t, g.Bind(1))
	if !refusedAtOnce(t, g) {
		t.Error("connected to a socket that doesn't listen")
	}
	must(t, g.Listen())
	must(t, g.Bind(4))
	must(t, g.check())
	const connections = 40
	for range connections {
		dial(t, g)
	}
	if got := queueLen(t, g, 0); got != connections {
		t.Errorf("%d of %d connections came to the shard that listens", got, connections)
	}
	if g.Listening() != 1 || g.Len() != 4 {
		t.Errorf("%d of %d listen", g.Listening(), g.Len())
	}
}

func TestIndexIsSlot(t *testing.T) {
	for _, l := range []*config.Listener{tcp4(t), tcp6(t)} {
		t.Run(l.Network, func(t *testing.T) {
			g := newGroup(t, l)
			for _, n := range []int{1, 2, 4, 3, 1, 4, 5, 2, 6} {
				if n < g.Len() {
					must(t, g.CloseDown(n))
				}
				must(t, g.Bind(n))
				must(t, g.Listen())
				if g.Len() != n || g.Listening() != n {
					t.Fatalf("%d of %d listen, want %d", g.Listening(), g.Len(), n)
				}
				expectIndexIsSlot(t, g)
			}
		})
	}
}

func TestUnixSocketHasOneShard(t *testing.T) {
	if g := listening(t, unixListener(t), 8); g.Len() != 1 {
		t.Errorf("%d shards", g.Len())
	}
}

func TestAcceptedConnectionsInherit(t *testing.T) {
	for _, l := range []*config.Listener{tcp4(t), tcp6(t)} {
		g := listening(t, l, 1)
		dial(t, g)
		fd := accept(t, g, 0)
		for _, o := range []option{
			{"TCP_NODELAY", unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
			{"SO_KEEPALIVE", unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		} {
			if got, err := unix.GetsockoptInt(fd, o.level, o.opt); err != nil || got != o.value {
				t.Errorf("%s %s: %d, %v", l.Network, o.name, got, err)
			}
		}
	}
}

func TestIPv6WildcardLeavesIPv4Alone(t *testing.T) {
	l := tcp4(t)
	g4 := listening(t, l, 2)
	l6 := *l
	l6.Network, l6.Address = "tcp6", strings.Replace(l.Address, "127.0.0.1", "[::]", 1)
	g6 := listening(t, &l6, 2)
	dial(t, g4)
	if got := queueLen(t, g4, 0) + queueLen(t, g4, 1); got != 1 {
		t.Errorf("%d connections at the IPv4 group", got)
	}
	if got := queueLen(t, g6, 0) + queueLen(t, g6, 1); got != 0 {
		t.Errorf("%d connections at the IPv6 group", got)
	}
}

func TestAddressInUse(t *testing.T) {
	l := tcp4(t)
	fd := stranger(t, l)
	g := newGroup(t, l)
	// A stranger that is bound but doesn't listen yet shows only in listen(2).
	must(t, g.Bind(2))
	must(t, unix.Listen(fd, 1))
	expectInUse(t, g, "listen web ", g.Listen())
	must(t, g.CloseDown(0))
	expectInUse(t, g, "bind web ", g.Bind(2))
}

func expectInUse(t *testing.T, g *Group, prefix string, err error) {
	t.Helper()
	want := prefix + g.addr.String() + ": address already in use"
	if !errors.Is(err, unix.EADDRINUSE) || !strings.HasPrefix(err.Error(), want) ||
		!strings.Contains(err.Error(), fmt.Sprintf("PID %d (uid %d, ", os.Getpid(), os.Getuid())) {
		t.Errorf("got %v, want %s…", err, want)
	}
	must(t, g.check())
	if g.Listening() != 0 {
		t.Errorf("%d shards listen", g.Listening())
	}
}

func TestFailedBindLeavesTheGroup(t *testing.T) {
	g := newGroup(t, &config.Listener{Name: "far", Network: "tcp4", Address: "192.0.2.1:80", Accept: config.AcceptReuseport})
	if err := g.Bind(3); !errors.Is(err, unix.EADDRNOTAVAIL) {
		t.Errorf("got %v", err)
	}
	if g.Len() != 0 {
		t.Errorf("%d shards", g.Len())
	}
}

func TestKeys(t *testing.T) {
	for _, key := range []string{"tcp4!127.0.0.1:80", "tcp6![::1]:80", "tcp6![fe80::1%1]:80", "unix!/run/s"} {
		if a, err := parseKey(key); err != nil || a.key != key || a.network+"!"+a.String() != key {
			t.Errorf("%s: %+v, %v", key, a, err)
		}
	}
	for _, key := range []string{
		"", "tcp4", "tcp4!", "tcp4![::1]:80", "tcp6!127.0.0.1:80", "tcp4!localhost:80", "tcp!127.0.0.1:80",
		"udp4!127.0.0.1:80", "unix!", "unix!/" + strings.Repeat("x", 107),
	} {
		if a, err := parseKey(key); err == nil {
			t.Errorf("%q was read as %+v", key, a)
		}
	}
}

func TestUpdateChangesTheBacklog(t *testing.T) {
	l := tcp4(t)
	g := listening(t, l, 2)
	l.Backlog, l.Name = 7, "renamed"
	must(t, g.Update(l))
	for i := range g.Len() {
		info, err := unix.GetsockoptTCPInfo(g.FD(i), unix.IPPROTO_TCP, unix.TCP_INFO)
		must(t, err)
		if info.Sacked != 7 { // of a listening socket: its backlog
			t.Errorf("shard %d: backlog %d", i, info.Sacked)
		}
	}
	expectIndexIsSlot(t, g)
	if g.Name() != "renamed" {
		t.Errorf("name %s", g.Name())
	}
	if err := g.Update(tcp6(t)); err == nil {
		t.Error("took over another address")
	}
}
