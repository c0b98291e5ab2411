package shard

import (
	"errors"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/config"
)

// refusals are both ways to refuse, whatever this process may do.
var refusals = map[string]func(g *Group) error{
	"by hiding": func(g *Group) error {
		g.refused = byHiding
		return g.hideFrom(0)
	},
	"by filter": (*Group).refuseByFilter,
}

func eachRefusal(t *testing.T, test func(t *testing.T, g *Group, refuse func(*Group) error)) {
	for name, refuse := range refusals {
		for _, network := range []func(*testing.T) *config.Listener{tcp4, tcp6} {
			l := network(t)
			t.Run(name+" "+l.Network, func(t *testing.T) { test(t, listening(t, l, 3), refuse) })
		}
	}
}

func TestRefusedGroupServesItsQueue(t *testing.T) {
	eachRefusal(t, func(t *testing.T, g *Group, refuse func(*Group) error) {
		const connections = 30
		for range connections {
			_, err := dial(t, g).Write([]byte("x"))
			must(t, err)
		}
		must(t, refuse(g))
		must(t, g.check())
		if begins(t, g) {
			t.Error("a new connection began")
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
	eachRefusal(t, func(t *testing.T, g *Group, refuse func(*Group) error) {
		c := halfOpen(t, g)
		halves, err := g.HalfOpen()
		must(t, err)
		expectLeft(t, halves, 1)
		for i := range g.Len() {
			must(t, detachFilter(g.FD(i)))
		}
		must(t, refuse(g))
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
// drops everything but SYN at the server, until it is detached or replaced.
func halfOpen(t *testing.T, g *Group) net.Conn {
	t.Helper()
	onlySYN := append([]unix.SockFilter(nil), dropSYN...)
	onlySYN[3].K, onlySYN[4].K = 0, 0xffffffff
	for i := range g.Len() {
		must(t, attach(g.FD(i), unix.SO_ATTACH_FILTER, onlySYN))
	}
	return dial(t, g)
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

// begins says whether a client gets an answer to its SYN other than a reset.
func begins(t *testing.T, g *Group) bool {
	t.Helper()
	network := "tcp"
	c, err := net.DialTimeout(network, g.addr.String(), 200*time.Millisecond)
	if err == nil {
		_ = c.Close()
	}
	return err == nil
}

func TestUnrefuse(t *testing.T) {
	eachRefusal(t, func(t *testing.T, g *Group, refuse func(*Group) error) {
		must(t, refuse(g))
		if !g.Refused() {
			t.Error("not refused")
		}
		if g.refused == byHiding && !canUnhide() {
			t.Skip("CAP_NET_RAW is needed to show a hidden socket again")
		}
		must(t, g.Unrefuse())
		must(t, g.Unrefuse())
		if g.Refused() {
			t.Error("still refused")
		}
		expectIndexIsSlot(t, g)
	})
}

func TestRefusedAtOnceWherePossible(t *testing.T) {
	if !canUnhide() {
		t.Skip("without CAP_NET_RAW a filter is used, and clients are refused when they try again")
	}
	g := listening(t, tcp4(t), 2)
	must(t, g.Refuse())
	if !refusedAtOnce(t, g) {
		t.Error("not refused")
	}
}

// TestMovedToTheWildcard moves an address from 127.0.0.1 to 0.0.0.0: the queue
// of the old sockets can be served while new connections come to the new ones.
func TestMovedToTheWildcard(t *testing.T) {
	if !canUnhide() {
		t.Skip("without CAP_NET_RAW a filter is used, and clients come to the wildcard when they try again")
	}
	l := tcp4(t)
	g := listening(t, l, 1)
	dial(t, g)
	wide := *l
	wide.Address = "0.0.0.0" + l.Address[len("127.0.0.1"):]
	w := listening(t, &wide, 1)
	must(t, g.Refuse())
	dial(t, g)
	accept(t, w, 0)
	accept(t, g, 0)
}

// TestFilteredClientIsRefusedAtLast waits for the SYN that the client sends
// again after a second, RFC 6298 section 2.
func TestFilteredClientIsRefusedAtLast(t *testing.T) {
	g := listening(t, tcp4(t), 1)
	must(t, g.refuseByFilter())
	refused := make(chan error, 1)
	go func() {
		c, err := net.DialTimeout("tcp", g.addr.String(), patience)
		if err == nil {
			_ = c.Close()
		}
		refused <- err
	}()
	select {
	case err := <-refused:
		t.Fatalf("answered: %v", err)
	case <-time.After(100 * time.Millisecond): // what must not happen has no event
	}
	must(t, g.Remove())
	if err := <-refused; !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("got %v", err)
	}
}
