package shard

import (
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/config"
)

// TestRetireUnderBursts takes a group from 4 shards to 1 and back while clients
// connect in bursts of 300. Nobody may lose a connection.
func TestRetireUnderBursts(t *testing.T) {
	for _, l := range []*config.Listener{tcp4(t), tcp6(t)} {
		t.Run(l.Network, func(t *testing.T) {
			g := listening(t, l, 4)
			loop := startAcceptor(t, g)
			clients := startClients(t, g, 4, 300)
			const changes = 10
			for n := range changes {
				clients.waitForBursts(t, n+1)
				retire(t, g, loop, 1)
				must(t, g.Bind(4))
				must(t, g.Listen())
				must(t, g.check())
				loop.serve(t, g.FDs())
			}
			clients.stop()
			t.Logf("%d connections, %d lost, slowest connect %v",
				clients.connects.Load(), clients.lost.Load(), time.Duration(clients.slowest.Load()))
			if n := clients.lost.Load(); n > 0 {
				t.Errorf("lost %d of %d connections", n, clients.connects.Load())
			}
			expectIndexIsSlot(t, stopped(t, g, loop))
		})
	}
}

// retire goes through all steps of a retirement, with loop as every worker.
func retire(t *testing.T, g *Group, loop *acceptor, n int) {
	t.Helper()
	must(t, g.Steer(n))
	halves, err := g.HalfOpen()
	must(t, err)
	expectLeft(t, halves, 0)
	for i := n; i < g.Len(); i++ {
		deadline := time.Now().Add(patience)
		for queueLen(t, g, i) > 0 {
			if time.Now().After(deadline) {
				t.Fatalf("shard %d is never empty", i)
			}
			time.Sleep(time.Millisecond)
		}
	}
	loop.serve(t, g.FDs()[:n])
	must(t, g.CloseDown(n))
	must(t, g.Unsteer())
	must(t, g.check())
}

// stopped ends the acceptor, so that the test can take from the queues itself.
func stopped(t *testing.T, g *Group, loop *acceptor) *Group {
	t.Helper()
	loop.serve(t, nil)
	return g
}

// acceptor answers every connection of some shards with one byte.
type acceptor struct {
	next chan []int // shards to serve from now on
	done chan struct{}
}

func startAcceptor(t *testing.T, g *Group) *acceptor {
	a := &acceptor{next: make(chan []int), done: make(chan struct{})}
	go a.run(g.FDs())
	t.Cleanup(func() {
		close(a.next)
		<-a.done
	})
	return a
}

// serve returns when nothing else than shards is accepted from any more.
func (a *acceptor) serve(t *testing.T, shards []int) {
	t.Helper()
	select {
	case a.next <- shards:
	case <-time.After(patience):
		t.Fatal("the acceptor hangs")
	}
}

func (a *acceptor) run(shards []int) {
	defer close(a.done)
	for {
		select {
		case next, ok := <-a.next:
			if !ok {
				return
			}
			shards = next
		default:
		}
		p := make([]unix.PollFd, len(shards))
		for i, fd := range shards {
			p[i] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}
		}
		_, _ = unix.Poll(p, 1)
		for _, fd := range shards {
			for answerOne(fd) {
			}
		}
	}
}

func answerOne(listener int) bool {
	fd, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
	if err != nil {
		return false
	}
	_, _ = unix.Write(fd, []byte("x"))
	_ = unix.Close(fd)
	return true
}

// clients connect in bursts and count what they lose.
type clients struct {
	connects, lost, bursts, slowest atomic.Int64

	ending  atomic.Bool
	running sync.WaitGroup
}

func startClients(t *testing.T, g *Group, goroutines, burst int) *clients {
	c := &clients{}
	address := g.addr.String()
	for range goroutines {
		c.running.Go(func() {
			for !c.ending.Load() {
				c.burst(address, burst/goroutines)
			}
		})
	}
	t.Cleanup(c.stop)
	return c
}

// stop waits until every connection that was begun has its answer.
func (c *clients) stop() {
	c.ending.Store(true)
	c.running.Wait()
}

// burst connects n times before it reads the first answer.
func (c *clients) burst(address string, n int) {
	conns := make([]net.Conn, 0, n)
	for range n {
		began := time.Now()
		conn, err := net.DialTimeout("tcp", address, patience)
		took := int64(time.Since(began))
		for old := c.slowest.Load(); took > old && !c.slowest.CompareAndSwap(old, took); old = c.slowest.Load() {
		}
		c.connects.Add(1)
		if err != nil {
			c.lost.Add(1)
			continue
		}
		conns = append(conns, conn)
	}
	for _, conn := range conns {
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		if n, err := conn.Read(make([]byte, 1)); n != 1 || err != nil {
			c.lost.Add(1)
		}
		_ = conn.(*net.TCPConn).SetLinger(0) // no TIME_WAIT: ports are few
		_ = conn.Close()
	}
	c.bursts.Add(1)
}

// waitForBursts returns when n bursts are over, so that clients are at work.
func (c *clients) waitForBursts(t *testing.T, n int) {
	t.Helper()
	for deadline := time.Now().Add(patience); c.bursts.Load() < int64(n); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the clients hang")
		}
	}
}

func TestCloseDownChecksItsOrder(t *testing.T) {
	g := listening(t, tcp4(t), 3)
	must(t, g.Steer(2))
	for _, n := range []int{-1, 1, 4} {
		if err := g.CloseDown(n); err == nil {
			t.Errorf("closed down to %d", n)
		}
	}
	must(t, g.CloseDown(g.Len()-1))
	must(t, g.check())
	if g.Len() != 2 || g.Steered() != 2 {
		t.Errorf("%d shards, steered to %d", g.Len(), g.Steered())
	}
	for _, n := range []int{-1, 0, 3} {
		if err := g.Steer(n); err == nil {
			t.Errorf("steered to %d", n)
		}
	}
}

func TestSteeredConnectionsSpread(t *testing.T) {
	for _, l := range []*config.Listener{tcp4(t), tcp6(t)} {
		g := listening(t, l, 4)
		must(t, g.Steer(2))
		var got [4]int
		for range 64 {
			got[lands(t, g)]++
		}
		if got[0] == 0 || got[1] == 0 || got[2]+got[3] > 0 {
			t.Errorf("%s: steered to the first 2: %v", l.Network, got)
		}
	}
}

// TestHandshakesAreWaitedFor has a client whose handshake begins before the
// steering and ends after it.
func TestHandshakesAreWaitedFor(t *testing.T) {
	for _, l := range []*config.Listener{tcp4(t), tcp6(t)} {
		t.Run(l.Network, func(t *testing.T) {
			g := listening(t, l, 2)
			must(t, attach(g.FD(0), unix.SO_ATTACH_REUSEPORT_CBPF, constant(1)))
			c := halfOpen(t, g)
			must(t, g.Steer(1))
			halves, err := g.HalfOpen()
			must(t, err)
			expectLeft(t, halves, 1)
			if n := queueLen(t, g, 1); n != 0 {
				t.Errorf("%d in the queue", n)
			}
			must(t, detachFilter(g.FD(1)))
			_, err = c.Write([]byte("x"))
			must(t, err)
			expectLeft(t, halves, 0)
			if n := queueLen(t, g, 1); n != 1 {
				t.Fatalf("%d in the queue", n)
			}
			expectByte(t, accept(t, g, 1))
			must(t, g.CloseDown(1))
		})
	}
}

func TestHiddenShardIsFoundByNobody(t *testing.T) {
	g := listening(t, tcp4(t), 1)
	must(t, hide(g.FD(0)))
	must(t, hide(g.FD(0)))
	if !refusedAtOnce(t, g) {
		t.Error("connected to a hidden socket")
	}
	err := unhide(g.FD(0))
	if canUnhide() != (err == nil) {
		t.Errorf("unhide: %v", err)
	}
}

// TestClosedShardsWereHidden keeps what cost one connect in some hundred
// changes a second from coming back: see hide.
func TestClosedShardsWereHidden(t *testing.T) {
	g := listening(t, tcp4(t), 3)
	kept := dups(t, g)
	defer func() {
		for _, fd := range kept {
			_ = unix.Close(fd)
		}
	}()
	must(t, g.CloseDown(1))
	for i, fd := range kept {
		hidden, err := isHidden(fd)
		must(t, err)
		if hidden != (i >= 1) {
			t.Errorf("shard %d: hidden %v", i, hidden)
		}
	}
}
