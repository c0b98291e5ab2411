package eventloop_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/eventloop"
)

// sameDescriptors wants as many open after f as before.
func sameDescriptors(t *testing.T, f func()) {
	t.Helper()
	before := descriptors(t)
	f()
	if after := descriptors(t); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

// What the next loop refuses leaves nothing there, and the connection goes on
// where it was, descriptors and all.
func TestMoveRefused(t *testing.T) {
	plain := func(l *eventloop.Loop) eventloop.Handler { return &mover{calls: calls{received: echoes}} }
	for name, o := range map[string]struct {
		next config
		want string
	}{
		"another kind": {config{handler: func(*eventloop.Loop) eventloop.Handler {
			return &mover{kind: ".2"}
		}}, "kind"},
		"does not take any": {config{handler: func(*eventloop.Loop) eventloop.Handler { return &calls{} }}, "kind"},
		"Thaw fails": {config{handler: func(l *eventloop.Loop) eventloop.Handler {
			return &mover{thaw: func(c *eventloop.Conn, _ []int) error {
				c.SetTimeout(l.Class(time.Hour))
				return errors.New("as ordered")
			}}
		}}, "as ordered"},
		"Thaw panics": {config{handler: func(*eventloop.Loop) eventloop.Handler {
			return &mover{thaw: func(*eventloop.Conn, []int) error { panic("as ordered") }}
		}}, "panicked"},
		"shorter messages": {config{
			Options: eventloop.Options{MaxMessage: 100},
			handler: plain,
		}, "input"},
	} {
		t.Run(name, func(t *testing.T) {
			wants := 0
			r := newRelay(t, config{handler: func(*eventloop.Loop) eventloop.Handler {
				return &mover{
					calls: calls{received: func(c *eventloop.Conn, in []byte) int {
						if wants++; len(in) < 200 {
							return 0
						}
						return echoes(c, in)
					}},
					freeze: func(*eventloop.Conn) []int { return []int{int(os.Stdin.Fd())} },
				}
			}}, o.next)
			c := r.from.dial()
			text := pattern(1, 200)
			_, _ = c.Write(text[:150])
			r.from.until("half is read", func() bool { return wants == 1 })
			r.drain()
			d := r.from.depart(2)[0]
			sameDescriptors(t, func() {
				if _, err := r.to.arrive(&d); err == nil || !strings.Contains(err.Error(), o.want) {
					t.Errorf("refused with: %v", err)
				}
			})
			if n := r.to.count(); n.Open != 0 || n.TakenOver != 0 || n.Closed != 0 {
				t.Errorf("counted %+v", n)
			}
			r.from.do(func() { r.from.Return(&d, false) })
			_, _ = c.Write(text[150:])
			got := make([]byte, 200)
			if _, err := io.ReadFull(c, got); err != nil || string(got) != string(text) {
				t.Errorf("answered %d bytes or others, error %v", len(got), err)
			}
		})
	}
}

// A loop takes no more connections than it may, and when it is full by those that
// came it accepts none either, until one has gone.
func TestMoveLimit(t *testing.T) {
	o := func(limit int) config {
		return config{
			Options: eventloop.Options{MaxConnections: limit},
			handler: func(*eventloop.Loop) eventloop.Handler { return &mover{calls: calls{received: echoes}} },
		}
	}
	r := newRelay(t, o(0), o(2))
	var clients []*tcp
	for range 3 {
		c := r.from.dial()
		ping(t, c)
		clients = append(clients, c)
	}
	r.drain()
	ds := r.from.depart(10)
	for i := range ds[:2] {
		c, err := r.to.arrive(&ds[i])
		if err != nil {
			t.Fatal(err)
		}
		r.from.do(func() { r.from.Departed(&ds[i]) })
		r.to.do(func() { r.to.Begin(c) })
	}
	sameDescriptors(t, func() {
		if _, err := r.to.arrive(&ds[2]); !errors.Is(err, eventloop.ErrFull) {
			t.Errorf("refused with: %v", err)
		}
	})
	r.from.do(func() { r.from.Return(&ds[2], false) })
	own := r.to.dial() // waits in the queue
	_, _ = own.Write([]byte("x"))
	for _, c := range clients {
		ping(t, c)
	}
	if n := r.to.count(); n.Open != 2 || n.Accepted != 0 || n.AcceptPaused != 1 {
		t.Errorf("counted %+v", n)
	}
	clients[0].Close()
	if _, err := io.ReadFull(own, make([]byte, 1)); err != nil {
		t.Errorf("a place was free: %v", err)
	}
	if n := r.to.count(); n.Open != 2 || n.Accepted != 1 {
		t.Errorf("counted %+v", n)
	}
}

// A panic in Freeze costs its connection and no other.
func TestFreezePanics(t *testing.T) {
	r := moves(t, func(*eventloop.Loop) *mover {
		return &mover{
			calls: calls{received: func(c *eventloop.Conn, in []byte) int {
				c.State = string(in)
				return echoes(c, in)
			}},
			freeze: func(c *eventloop.Conn) []int {
				if c.State == "bad" {
					panic("as ordered")
				}
				return nil
			},
		}
	})
	var clients []*tcp
	for _, word := range []string{"one", "bad", "two"} {
		c := r.from.dial()
		_, _ = c.Write([]byte(word))
		if _, err := io.ReadFull(c, make([]byte, 3)); err != nil {
			t.Fatal(err)
		}
		clients = append(clients, c)
	}
	r.drain()
	if n := len(r.from.pass(r.to)); n != 2 {
		t.Errorf("%d moved", n)
	}
	ping(t, clients[0])
	ping(t, clients[2])
	if _, err := clients[1].Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the other one: %v", err)
	}
	if n := r.from.count(); n.Panics != 1 || n.HandedOver != 2 || n.Closed != 1 || n.Open != 0 {
		t.Errorf("counted %+v", n)
	}
}

// Connections that are cut, or closed by a handler, while they are away are
// nobody's here any more: the answer means nothing, and the next loop has all of
// it, if it took it.
func TestMoveEndsWhileAway(t *testing.T) {
	for name, end := range map[string]func(*server, *eventloop.Conn){
		"Cut":   func(s *server, _ *eventloop.Conn) { s.Cut() },
		"Close": func(_ *server, c *eventloop.Conn) { c.Close() },
	} {
		for answer, f := range map[string]func(*server, *eventloop.Departure){
			"Departed":     func(s *server, d *eventloop.Departure) { s.Departed(d) },
			"Return again": func(s *server, d *eventloop.Departure) { s.Return(d, true) },
			"Return":       func(s *server, d *eventloop.Departure) { s.Return(d, false) },
			"none":         func(*server, *eventloop.Departure) {},
		} {
			for _, sameTurn := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, %s, same turn=%v", name, answer, sameTurn), func(t *testing.T) {
					r := moves(t, func(*eventloop.Loop) *mover { return &mover{calls: calls{received: echoes}} })
					c := r.from.dial()
					ping(t, c)
					r.drain()
					d := r.from.depart(1)[0]
					conn, err := r.to.arrive(&d)
					if err != nil {
						t.Fatal(err)
					}
					r.from.do(func() {
						end(r.from, r.from.Find(d.FD))
						if sameTurn {
							f(r.from, &d)
						}
					})
					other := r.from.dial() // gets the descriptor's number
					ping(t, other)
					r.from.do(func() { f(r.from, &d) })
					r.to.do(func() { r.to.Begin(conn) })
					ping(t, c)
					ping(t, other)
					cut := uint64(0)
					if name == "Cut" {
						cut = 1
					}
					if n := r.from.count(); n.Open != 1 || n.HandedOver != 0 || n.Closed != 1 || n.Cut != cut {
						t.Errorf("counted %+v", n)
					}
				})
			}
		}
	}
}

// A second answer for a connection that has been answered for means nothing.
func TestMoveAnsweredTwice(t *testing.T) {
	r := moves(t, func(*eventloop.Loop) *mover { return &mover{calls: calls{received: echoes}} })
	c := r.from.dial()
	ping(t, c)
	r.drain()
	d := r.from.depart(1)[0]
	r.from.do(func() {
		r.from.Return(&d, true)
		r.from.Return(&d, true)
		r.from.Return(&d, false)
		r.from.Departed(&d)
	})
	ping(t, c)
	if r.from.pass(r.to); r.to.count().Open != 1 {
		t.Error("it was not given out again")
	}
	r.from.do(func() { r.from.Departed(&d) })
	ping(t, c)
	if n := r.from.count(); n.HandedOver != 1 {
		t.Errorf("counted %+v", n)
	}
}

// A file that moves with its connection is closed on both sides when it is done.
func TestMoveClosesFiles(t *testing.T) {
	var held []int
	r := moves(t, func(*eventloop.Loop) *mover {
		return &mover{
			calls: calls{
				opened: func(c *eventloop.Conn) {
					fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
					if err != nil {
						t.Error(err)
					}
					held = []int{fd}
				},
				received: echoes,
				closed:   func(*eventloop.Conn) { _ = unix.Close(held[0]) },
			},
			freeze: func(*eventloop.Conn) []int { return held },
			thaw: func(_ *eventloop.Conn, fds []int) error {
				if len(fds) != 1 {
					t.Errorf("came with %v", fds)
				}
				return nil
			},
		}
	})
	c := r.from.dial()
	ping(t, c)
	r.drain()
	d := r.from.depart(2)[0]
	if fmt.Sprint(d.FDs()) != fmt.Sprint([]int{d.FD, held[0]}) {
		t.Errorf("descriptors %v", d.FDs())
	}
	p := carry(t, d.Parcel)
	var conn *eventloop.Conn
	r.to.do(func() { conn, _ = r.to.Arrive(r.to.service, &p) })
	r.from.do(func() { r.from.Departed(&d) })
	r.to.do(func() {
		held = p.Files
		r.to.Begin(conn)
	})
	ping(t, c)
	_ = c.CloseWrite()
	_, _ = io.Copy(io.Discard, c)
	r.to.until("it is closed", func() bool { return r.to.Open() == 0 }) // serve counts descriptors
}
