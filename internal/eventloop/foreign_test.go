package eventloop_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/eventloop"
)

// clearNonblock does what a hostile giver can do through the duplicate that it kept, at any time.
func clearNonblock(t *testing.T, s *server) {
	t.Helper()
	s.do(func() {
		n := 0
		for fd := range 1 << 10 {
			if s.Find(fd) != nil {
				n++
				if err := unix.SetNonblock(fd, false); err != nil {
					t.Error(err)
				}
			}
		}
		if n == 0 {
			t.Error("no connection")
		}
	})
}

// A connection that came from elsewhere and whose socket was made blocking since keeps its loop
// neither reading nor writing nor sending a file.
func TestForeignBlocks(t *testing.T) {
	const size = 8 << 20 // more than sockets hold between a loop and a client that reads little
	name := filepath.Join(t.TempDir(), "file")
	body := pattern(3, size)
	if err := os.WriteFile(name, body, 0o600); err != nil {
		t.Fatal(err)
	}
	for what, answer := range map[string]func(c *eventloop.Conn){
		"write": func(c *eventloop.Conn) { c.Write(body) },
		"tail": func(c *eventloop.Conn) {
			c.Write(body[:1])
			c.WriteStatic(body[1:])
		},
		"file": func(c *eventloop.Conn) {
			fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				t.Error(err)
			}
			c.SendFile(fd, 0, size)
		},
	} {
		t.Run(what, func(t *testing.T) {
			const most = 1024
			r := newRelay(t, config{
				Options: eventloop.Options{MaxMessage: most},
				handler: func(*eventloop.Loop) eventloop.Handler {
					return &mover{calls: calls{received: func(c *eventloop.Conn, in []byte) int {
						answer(c)
						return len(in)
					}}}
				},
			})
			c := r.from.dial()
			_ = c.SetReadBuffer(64 << 10)
			r.from.until("it is there", func() bool { return r.from.Open() == 1 })
			conn := r.move()
			clearNonblock(t, r.to)
			release := r.to.hold(nil)
			if _, err := c.Write(make([]byte, most)); err != nil { // all that one read takes: it is read once more
				t.Fatal(err)
			}
			await(conn.FD())
			release()
			r.to.until("its client takes no more", conn.Blocked)
			got := make([]byte, size)
			if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, body) {
				t.Errorf("other bytes came, error %v", err)
			}
		})
	}
}

// Nor does a pair, whose bytes are spliced elsewhere.
func TestForeignPairBlocks(t *testing.T) {
	const size = 8 << 20
	r, client, far := movingPair(t)
	_, _ = client.SetReadBuffer(64<<10), far.SetReadBuffer(64<<10)
	r.drain()
	if n := len(r.from.pass(r.to)); n != 1 {
		t.Fatalf("%d pairs moved", n)
	}
	clearNonblock(t, r.to)
	for _, way := range []struct {
		from, to *tcp
		moved    func(n *eventloop.Counters) uint64
	}{
		{client, far, func(n *eventloop.Counters) uint64 { return n.UpstreamOut }},
		{far, client, func(n *eventloop.Counters) uint64 { return n.BytesOut }},
	} {
		var last uint64
		want := pattern(1, size)
		go func() { _, _ = way.from.Write(want) }()
		r.to.until("nothing moves any more", func() bool {
			before := last
			last = way.moved(r.to.Count())
			return last > 0 && last == before && r.to.Queued() == 0
		})
		got := make([]byte, size)
		if _, err := io.ReadFull(way.to, got); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("other bytes came, error %v", err)
		}
	}
}

// BenchmarkSendFile is a file of 16 MiB: by sendfile(2), and copied as for a connection that came from another
// process.
func BenchmarkSendFile(b *testing.B) {
	const size = 16 << 20
	name := filepath.Join(b.TempDir(), "file")
	if err := os.WriteFile(name, make([]byte, size), 0o600); err != nil {
		b.Fatal(err)
	}
	for _, foreign := range []bool{false, true} {
		b.Run(fmt.Sprintf("foreign=%v", foreign), func(b *testing.B) {
			s := one(b, &calls{received: func(c *eventloop.Conn, in []byte) int {
				fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
				if err != nil {
					b.Error(err)
				}
				if foreign {
					c.MakeForeign()
				}
				c.SendFile(fd, 0, size)
				return len(in)
			}})
			c := s.dial()
			_ = c.SetDeadline(time.Time{})
			room := make([]byte, 256<<10)
			b.SetBytes(size)
			for b.Loop() {
				_, _ = c.Write([]byte("x"))
				for got := 0; got < size; {
					n, err := c.Read(room)
					if err != nil {
						b.Fatal(err)
					}
					got += n
				}
			}
		})
	}
}
