package shard

import (
	"errors"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/config"
)

func eachNetwork(t *testing.T, test func(t *testing.T, l *config.Listener)) {
	t.Helper()
	for _, l := range []*config.Listener{tcp4(t), tcp6(t)} {
		t.Run(l.Network, func(t *testing.T) { test(t, l) })
	}
}

func TestRefusedGroupServesItsQueue(t *testing.T) {
	eachNetwork(t, func(t *testing.T, l *config.Listener) {
		g := listening(t, l, 3)
		const connections = 30
		for range connections {
			_, err := dial(t, g).Write([]byte("x"))
			must(t, err)
		}
		must(t, g.Refuse())
		must(t, g.check())
		if !refusedAtOnce(t, g) {
			t.Error("a new connection is not refused")
		}
		got := 0
		for i := range g.Len() {
			for range queueLen(t, g, i) {
				expectByte(t, accept(t, g, i))
				got++
			}
		}
		if got != connections {
			t.Errorf("accepted %d of %d", got, connections)
		}
	})
}

// TestRefusedGroupCompletesHandshakes has a client whose last ACK of the
// handshake is kept from the server until the group is refused: connect(2) has
// succeeded for it, so it must be served.
func TestRefusedGroupCompletesHandshakes(t *testing.T) {
	eachNetwork(t, func(t *testing.T, l *config.Listener) {
		g := listening(t, l, 3)
		c := halfOpen(t, g)
		halves, err := g.HalfOpen()
		must(t, err)
		expectLeft(t, halves, 1)
		for i := range g.Len() {
			must(t, detachFilter(g.FD(i)))
		}
		must(t, g.Refuse())
		expectLeft(t, halves, 1)
		_, err = c.Write([]byte("x"))
		must(t, err)
		expectLeft(t, halves, 0)
		for i := range g.Len() {
			if queueLen(t, g, i) == 1 {
				expectByte(t, accept(t, g, i))
				return
			}
		}
		t.Error("the connection is in no queue")
	})
}

// halfOpen returns a connection that only the client thinks complete: a filter
// drops everything but SYN at the server, until it is detached.
func halfOpen(t *testing.T, g *Group) net.Conn {
	t.Helper()
	for i := range g.Len() {
		err := attach(g.FD(i), unix.SO_ATTACH_FILTER, onlySYN)
		if errors.Is(err, unix.EPERM) {
			t.Skip("a socket filter, which holds the handshake half open, needs a privilege here")
		}
		must(t, err)
	}
	return dial(t, g)
}

// onlySYN drops segments without SYN. What a filter on a TCP socket sees begins
// with the TCP header; its byte 13 holds the flags, RFC 9293 section 3.1.
var onlySYN = []unix.SockFilter{
	{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: 13},
	{Code: unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K, K: 0x02, Jf: 1},
	{Code: unix.BPF_RET | unix.BPF_K, K: 0xffffffff}, // the whole segment
	{Code: unix.BPF_RET | unix.BPF_K, K: 0},          // none of it
}

func detachFilter(fd int) error {
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0)
}

func expectLeft(t *testing.T, h *Halves, want int) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		n, err := h.Left()
		must(t, err)
		if n == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d handshakes are left, want %d", n, want)
		}
	}
}

func expectByte(t *testing.T, fd int) {
	t.Helper()
	must(t, unix.SetNonblock(fd, false))
	b := make([]byte, 2)
	for {
		n, err := unix.Read(fd, b)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if n != 1 || err != nil || b[0] != 'x' {
			t.Errorf("read %d bytes, %v", n, err)
		}
		return
	}
}

func TestUnrefuse(t *testing.T) {
	eachNetwork(t, func(t *testing.T, l *config.Listener) {
		g := listening(t, l, 2)
		must(t, g.Unrefuse())
		dial(t, g)
		must(t, g.Refuse())
		must(t, g.Bind(3)) // the next configuration wants more
		must(t, g.check())
		if err := g.Listen(); err == nil {
			t.Error("a refused group began to listen")
		}
		if !g.Revivable() {
			if err := g.Unrefuse(); !errors.Is(err, ErrGone) {
				t.Errorf("got %v", err)
			}
			return
		}
		must(t, g.Unrefuse())
		must(t, g.Listen())
		must(t, g.check())
		for i := range 2 {
			for range queueLen(t, g, i) {
				accept(t, g, i)
			}
		}
		expectIndexIsSlot(t, g)
	})
}

// TestAnotherGroupBesideARefusedOne is how an address comes back where the
// refusal can't be undone.
func TestAnotherGroupBesideARefusedOne(t *testing.T) {
	for _, l := range []*config.Listener{tcp4(t), tcp6(t), unixListener(t)} {
		t.Run(l.Network, func(t *testing.T) {
			g := listening(t, l, 1)
			dial(t, g)
			must(t, g.Refuse())
			next := newGroup(t, l)
			next.SetOwn(of(g))
			must(t, next.Bind(1))
			must(t, next.Listen())
			dial(t, next)
			accept(t, next, 0)
			accept(t, g, 0)
			must(t, g.Remove())
			dial(t, next)
			accept(t, next, 0)
		})
	}
}

// TestMovedToTheWildcard moves an address from 127.0.0.1 to 0.0.0.0: the queue
// of the old sockets can be served while new connections come to the new ones.
func TestMovedToTheWildcard(t *testing.T) {
	l := tcp4(t)
	g := listening(t, l, 1)
	dial(t, g)
	wide := *l
	wide.Address = "0.0.0.0" + l.Address[len("127.0.0.1"):]
	w := newGroup(t, &wide)
	w.SetOwn(of(g))
	must(t, w.Bind(1))
	must(t, w.Listen())
	must(t, g.Refuse())
	dial(t, g)
	accept(t, w, 0)
	accept(t, g, 0)
}
