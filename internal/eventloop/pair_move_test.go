package eventloop_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"

	"golang.org/x/sys/unix"

	"reuseportd/internal/eventloop"
)

// movingPair is a pair in the first loop of a relay.
func movingPair(t *testing.T) (r *relay, client, far *tcp) {
	t.Helper()
	b := newBackend(t)
	r = moves(t, func(l *eventloop.Loop) *mover {
		return proxy(l, &b.addr, func(e unix.Errno) { t.Errorf("connect: %v", e) })
	})
	for _, s := range []*server{r.from, r.to} {
		s.do(func() { s.service.SetUpstreams(upstreams[s.Loop]) })
	}
	client = r.from.dial()
	far = b.accept(t)
	_, _ = client.Write([]byte("x"))
	if _, err := io.ReadFull(far, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return r, client, far
}

// A pair goes on elsewhere, whatever is between its ends: nothing is lost or
// reordered, and both halves of a close are where they were.
func TestMovePair(t *testing.T) {
	for _, size := range []int{0, 1000, 200 << 10, 20 << 20} {
		for _, half := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d bytes, half=%v", size, half), func(t *testing.T) {
				r, client, far := movingPair(t)
				a, b := pattern(1, size), pattern(2, size)
				if half {
					_ = client.CloseWrite()
					if _, err := far.Read(make([]byte, 1)); err != io.EOF {
						t.Fatal(err)
					}
					a = nil
				}
				send := func(c *tcp, p []byte) {
					go func() {
						_, _ = c.Write(p)
						_ = c.CloseWrite()
					}()
				}
				send(client, a)
				send(far, b)
				if size > 10<<20 { // until both are stuck in the middle
					r.from.until("bytes wait", func() bool {
						n := r.from.Count()
						return n.UpstreamIn > n.BytesOut && (half || n.BytesIn > n.UpstreamOut)
					})
				}
				r.drain()
				moved := r.from.pass(r.to)
				if len(moved) != 1 {
					// It may have ended by itself, if it was short.
					if size > 10<<20 {
						t.Fatalf("%d pairs moved", len(moved))
					}
				}
				back := make(chan []byte)
				go func() {
					p, _ := io.ReadAll(client)
					back <- p
				}()
				got, err := io.ReadAll(far)
				if err != nil || !bytes.Equal(got, a) {
					t.Errorf("the server got %d bytes of %d, or others: %v", len(got), len(a), err)
				}
				if got := <-back; !bytes.Equal(got, b) {
					t.Errorf("the client got %d bytes of %d, or others", len(got), len(b))
				}
				r.to.until("both are closed", func() bool { return r.to.Open() == 0 })
				if n := r.from.count(); n.Open != 0 || n.UpstreamOpen != 0 || n.Cut != 0 {
					t.Errorf("counted %+v", n)
				}
			})
		}
	}
}

// That a server has broken off is told by the kernel only once, maybe to the loop before:
// its client doesn't see an end in order.
func TestMovePairBroken(t *testing.T) {
	r, client, far := movingPair(t)
	const size = 256 << 10 // more than is copied at first, less than a pipe has room for
	var server int
	_ = client.SetReadBuffer(32 << 10)
	r.from.do(func() {
		for fd := range 1 << 10 {
			switch c := r.from.Find(fd); {
			case c == nil:
			case c.Outgoing():
				server = fd
				_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 4*size)
			default: // so that the pipe isn't emptied at once
				_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 32<<10)
			}
		}
	})
	release := r.from.hold(nil)
	if _, err := far.Write(pattern(1, size)); err != nil {
		t.Fatal(err)
	}
	for n := 0; n < size; n, _ = unix.IoctlGetInt(server, unix.SIOCINQ) {
		await(server)
	}
	reset(far)
	for p := []unix.PollFd{{Fd: int32(server)}}; p[0].Revents == 0; {
		_, _ = unix.Poll(p, -1)
	}
	release()
	buf := make([]byte, 16<<10)
	for deaf := false; !deaf; r.from.do(func() { deaf = r.from.ServerDeaf() }) {
		if _, err := io.ReadFull(client, buf); err != nil {
			t.Fatal("the loop has not heard of it, and already: ", err)
		}
	}
	r.drain()
	if n := len(r.from.pass(r.to)); n != 1 {
		t.Fatalf("%d pairs moved", n)
	}
	if _, err := io.Copy(io.Discard, client); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("the client reads: %v", err)
	}
}

// What nobody takes goes on where it was.
func TestMovePairBack(t *testing.T) {
	r, client, far := movingPair(t)
	r.drain()
	ds := r.from.depart(1 << 10)
	if len(ds) != 1 || ds[0].Partner == nil {
		t.Fatalf("%d departures", len(ds))
	}
	p := pattern(1, 1<<20)
	go func() {
		_, _ = client.Write(p)
		_ = client.CloseWrite()
	}()
	r.from.do(func() { r.from.Return(&ds[0], false) })
	if got, err := io.ReadAll(far); err != nil || !bytes.Equal(got, p) {
		t.Errorf("the server got %d bytes, %v", len(got), err)
	}
}

// A connection to a server that waits for somebody to use it goes by itself, or ends
// with its loop.
func TestMoveIdleUpstream(t *testing.T) {
	for _, heirs := range []bool{true, false} {
		b := newBackend(t)
		var servers *eventloop.Service
		r := moves(t, func(l *eventloop.Loop) *mover { return &mover{} })
		r.from.do(func() {
			servers = r.from.NewService(&mover{}, 0)
			if _, err := r.from.Dial(servers, &b.addr); err != nil {
				t.Error(err)
			}
		})
		far := b.accept(t)
		r.from.until("it is connected", func() bool { c := r.from.Only(); return c != nil && !c.Connecting() })
		if !heirs {
			r.from.do(func() { r.from.Drain() })
			if _, err := far.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("the server reads: %v", err)
			}
			continue
		}
		r.drain()
		if moved := r.from.pass(r.to); len(moved) != 1 || !moved[0].Outgoing() {
			t.Fatalf("%d moved", len(moved))
		}
		if n, m := r.from.count(), r.to.count(); n.UpstreamOpen != 0 || n.HandedOver != 0 || m.UpstreamOpen != 1 || m.UpstreamKept != 1 || m.TakenOver != 0 {
			t.Errorf("counted %+v, %+v", n, m)
		}
	}
}

// A busy pair isn't given out until it is no more.
func TestMoveBusy(t *testing.T) {
	r, client, far := movingPair(t)
	var c *eventloop.Conn
	r.from.do(func() {
		for fd := range 1 << 10 {
			if f := r.from.Find(fd); f != nil && !f.Outgoing() {
				c = f
			}
		}
		c.SetBusy(true)
	})
	r.drain()
	if ds := r.from.depart(100); len(ds) != 0 {
		t.Fatalf("%d departed", len(ds))
	}
	r.from.do(func() { c.SetBusy(false) })
	if len(r.from.pass(r.to)) != 1 {
		t.Fatal("it didn't depart")
	}
	_, _ = client.Write([]byte("y"))
	if _, err := io.ReadFull(far, make([]byte, 1)); err != nil {
		t.Error(err)
	}
}
