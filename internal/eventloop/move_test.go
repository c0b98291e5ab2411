package eventloop_test

import (
	"bytes"
	"fmt"
	"io"
	"testing"

	"reuseportd/internal/eventloop"
)

// An idle connection goes on elsewhere, with its state, and ends there. Its first
// loop is empty then and has told its handler.
func TestMoveIdle(t *testing.T) {
	emptied := make(chan struct{}, 1)
	closed := map[*eventloop.Loop]int{}
	o := config{
		Options: eventloop.Options{Empty: func() { emptied <- struct{}{} }},
		handler: func(l *eventloop.Loop) eventloop.Handler {
			return &mover{calls: calls{
				opened:   func(c *eventloop.Conn) { c.State = "mine" },
				received: echoes,
				closed:   func(*eventloop.Conn) { closed[l]++ },
			}}
		},
	}
	r := newRelay(t, o)
	c := r.from.dial()
	ping(t, c)
	conn := r.move()
	<-emptied
	ping(t, c)
	r.to.do(func() {
		if conn.State != "mine" || conn.Remote().String() != c.LocalAddr().String() {
			t.Errorf("state %v, remote %v", conn.State, conn.Remote())
		}
	})
	_ = c.CloseWrite()
	if _, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
	r.to.until("it is closed", func() bool { return r.to.Open() == 0 })
	r.from.do(func() {
		if closed[r.from.Loop] != 1 {
			t.Errorf("Closed was called %d times where it left", closed[r.from.Loop])
		}
	})
	if n := r.to.count(); n.Closed != 1 || n.Accepted != 0 || n.Finished != 0 {
		t.Errorf("counted %+v", n)
	}
}

// Input that was not consumed goes along, up to all that a loop holds.
func TestMoveInput(t *testing.T) {
	const most = 4096
	for _, first := range []int{1, 2, most - 1, most} {
		t.Run(fmt.Sprint(first), func(t *testing.T) {
			var got []byte
			r := newRelay(t, config{
				Options: eventloop.Options{MaxMessage: most},
				handler: func(*eventloop.Loop) eventloop.Handler {
					return &mover{calls: *frames(func(c *eventloop.Conn, m []byte) bool {
						got = bytes.Clone(m)
						c.Finish(false)
						return true
					})}
				},
			})
			stream := frame(pattern(1, most-1)) // one byte too many in one piece
			if first < most {
				stream = frame(pattern(1, most-2))
			}
			c := r.from.dial()
			_, _ = c.Write(stream[:first])
			r.from.until("it is read", func() bool { return r.from.Count().BytesIn == uint64(first) })
			conn := r.move()
			r.to.do(func() {
				if conn.Kept() != first {
					t.Errorf("keeps %d bytes, want %d", conn.Kept(), first)
				}
			})
			_, _ = c.Write(stream[first:])
			_, _ = io.Copy(io.Discard, c)
			r.to.do(func() {
				if want := stream[2:]; first < most && !bytes.Equal(got, want) || first == most && got != nil {
					t.Errorf("got %d bytes of %d, or others", len(got), len(want))
				}
			})
		})
	}
}

// What the client sends, and its end, while the connection is with neither loop is
// seen by whoever has it next.
func TestMoveMissesNothing(t *testing.T) {
	for _, back := range []bool{false, true} {
		for what, do := range map[string]struct {
			f    func(c *tcp)
			want string
		}{
			"bytes":           {func(c *tcp) { _, _ = c.Write([]byte("abc")) }, "[abc]"},
			"end":             {func(c *tcp) { _ = c.CloseWrite() }, "[ended]"},
			"bytes, then end": {func(c *tcp) { _, _ = c.Write([]byte("abc")); _ = c.CloseWrite() }, "[abc ended]"},
			"reset":           {func(c *tcp) { reset(c) }, "[]"},
		} {
			t.Run(fmt.Sprintf("%s, back=%v", what, back), func(t *testing.T) {
				seen := make(map[*eventloop.Loop][]string)
				gone := make(chan *eventloop.Loop, 2)
				r := moves(t, func(l *eventloop.Loop) *mover {
					seen[l] = []string{}
					return &mover{calls: calls{
						received: func(_ *eventloop.Conn, in []byte) int {
							seen[l] = append(seen[l], string(in))
							return len(in)
						},
						ended: func(c *eventloop.Conn) {
							seen[l] = append(seen[l], "ended")
							c.Finish(false)
						},
						closed: func(*eventloop.Conn) { gone <- l },
					}}
				})
				c := r.from.dial()
				r.from.until("it is open", func() bool { return r.from.Open() == 1 })
				r.drain()
				d := r.from.depart(1)[0]
				do.f(c)
				await(d.FD) // reset too is readable
				next := r.to
				if back {
					next = r.from
					r.from.do(func() { r.from.Return(&d, false) })
				} else {
					conn, err := r.to.arrive(&d)
					if err != nil {
						t.Fatal(err)
					}
					r.from.do(func() { r.from.Departed(&d) })
					<-gone // the first loop's
					r.to.do(func() { r.to.Begin(conn) })
				}
				_ = c.CloseWrite()
				if <-gone != next.Loop {
					t.Error("it was closed elsewhere")
				}
				next.do(func() {
					want := do.want
					if what == "bytes" {
						want = "[abc ended]"
					}
					if got := fmt.Sprint(seen[next.Loop]); got != want {
						t.Errorf("saw %s, want %s", got, want)
					}
				})
			})
		}
	}
}

// A half-closed connection that waits for an answer stays one, and Ended is not
// called twice.
func TestMoveHalfClosed(t *testing.T) {
	ended := map[*eventloop.Loop]int{}
	r := moves(t, func(l *eventloop.Loop) *mover {
		return &mover{calls: calls{ended: func(*eventloop.Conn) { ended[l]++ }}}
	})
	c := r.from.dial()
	_ = c.CloseWrite()
	r.from.until("it has ended", func() bool { return ended[r.from.Loop] == 1 })
	conn := r.move()
	r.to.do(func() {
		conn.Write([]byte("late"))
		conn.Finish(false)
		conn.Wake()
	})
	if got, err := io.ReadAll(c); err != nil || string(got) != "late" {
		t.Errorf("got %q, error %v", got, err)
	}
	r.to.do(func() {
		if ended[r.to.Loop] != 0 {
			t.Error("Ended was called again")
		}
	})
}

// A connection that only waits for its client's end does so elsewhere, and not
// for longer than it would have.
func TestMoveLingering(t *testing.T) {
	r := moves(t, func(*eventloop.Loop) *mover {
		return &mover{calls: calls{received: func(c *eventloop.Conn, in []byte) int {
			c.Write([]byte("answer"))
			c.Finish(true)
			return len(in)
		}}}
	})
	c := r.from.dial()
	_, _ = c.Write([]byte("x"))
	if got, err := io.ReadAll(c); err != nil || string(got) != "answer" {
		t.Fatalf("got %q, error %v", got, err)
	}
	conn := r.move()
	_, _ = c.Write([]byte("nobody reads this"))
	r.to.do(func() {
		if !conn.Lingering() || conn.Due() > 2e9 {
			t.Errorf("lingering: %v, for %v", conn.Lingering(), conn.Due())
		}
	})
	c.Close()
	r.to.until("it is closed", func() bool { return r.to.Open() == 0 })
}

// A connection that is on the list of those that go on next turn is not, where it
// left, and goes on where it came.
func TestMoveQueued(t *testing.T) {
	r := moves(t, func(*eventloop.Loop) *mover { return &mover{calls: calls{received: echoes}} })
	var conn *eventloop.Conn
	c := r.from.dial()
	r.from.until("it is open", func() bool { return r.from.Open() == 1 })
	var ds []eventloop.Departure
	r.from.do(func() {
		r.from.DrainTo(nil)
		ds = r.from.Depart(1)
		r.from.Return(&ds[0], true)
		conn = r.from.Find(ds[0].FD)
		conn.Write([]byte("queued"))
		conn.Wake()
		if ds = r.from.Depart(1); !conn.Queued() {
			t.Error("it is not queued")
		}
	})
	if p := ds[0].Parcel; string(p.Out) != "queued" {
		t.Errorf("carries %q", p.Out)
	}
	next, err := r.to.arrive(&ds[0])
	if err != nil {
		t.Fatal(err)
	}
	r.from.do(func() { r.from.Departed(&ds[0]) })
	r.to.do(func() { r.to.Begin(next) })
	got := make([]byte, 6)
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "queued" {
		t.Errorf("got %q, error %v", got, err)
	}
	ping(t, c)
}
