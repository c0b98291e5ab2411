package eventloop_test

import (
	"io"
	"testing"
	"time"

	"reuseportd/internal/eventloop"
)

// timed makes a relay whose first loop waits d and whose second waits next.
func timed(t *testing.T, d, next time.Duration) (*relay, chan *eventloop.Loop) {
	fired := make(chan *eventloop.Loop, 10)
	handler := func(d time.Duration) func(l *eventloop.Loop) eventloop.Handler {
		return func(l *eventloop.Loop) eventloop.Handler {
			id := l.Class(d)
			return &mover{
				calls: calls{
					opened:   func(c *eventloop.Conn) { c.SetTimeout(id) },
					timedOut: func(*eventloop.Conn) { fired <- l },
				},
				thaw: func(c *eventloop.Conn, _ []int) error { c.SetTimeout(id); return nil },
			}
		}
	}
	return newRelay(t, config{handler: handler(d)}, config{handler: handler(next)}), fired
}

// The time that is left travels, and is never more than the new loop gives.
func TestMoveTimeLeft(t *testing.T) {
	for _, tt := range []struct{ d, next, most time.Duration }{
		{time.Hour, time.Hour, time.Hour},
		{time.Hour, 24 * time.Hour, time.Hour},
		{24 * time.Hour, time.Hour, time.Hour},
		{time.Hour, 0, 0},
		{0, time.Hour, time.Hour},
	} {
		r, _ := timed(t, tt.d, tt.next)
		r.from.dial()
		r.from.until("it is open", func() bool { return r.from.Open() == 1 })
		r.drain()
		d := r.from.depart(1)[0]
		if d.Due > tt.d || tt.d > 0 && d.Due <= 0 {
			t.Errorf("%v: %v is left", tt.d, d.Due)
		}
		c, err := r.to.arrive(&d)
		if err != nil {
			t.Fatal(err)
		}
		r.from.do(func() { r.from.Departed(&d) })
		r.to.do(func() {
			left := tt.most
			if d.Due > 0 {
				left = min(c.Due(), tt.most)
			}
			r.to.Begin(c)
			if tt.next == 0 {
				if c.Timeout() != 0 {
					t.Error("a timeout runs that nobody set")
				}
				return
			}
			// The clock may have gone on since the connection came.
			if got := c.Due(); got != left || got > tt.most {
				t.Errorf("%v to %v: due in %v, want %v", tt.d, tt.next, got, left)
			}
		})
	}
}

// A timeout that passes while the connection is away fires where it is next, and
// nowhere else.
func TestMoveOverdue(t *testing.T) {
	const d = 20 * time.Millisecond
	for _, back := range []bool{false, true} {
		r, fired := timed(t, d, time.Hour)
		r.from.dial()
		r.from.until("it is open", func() bool { return r.from.Open() == 1 })
		var dep []eventloop.Departure
		r.from.do(func() { r.from.DrainTo(nil); dep = r.from.Depart(1) })
		r.from.until("its time has passed", func() bool { return r.from.Passed(&dep[0]) })
		if len(fired) > 0 {
			t.Fatal("fired while it was away")
		}
		want := r.from
		if back {
			r.from.do(func() { r.from.Return(&dep[0], false) })
		} else {
			want = r.to
			c, err := r.to.arrive(&dep[0])
			if err != nil {
				t.Fatal(err)
			}
			r.from.do(func() { r.from.Departed(&dep[0]) })
			r.to.do(func() { r.to.Begin(c) })
		}
		if l := <-fired; l != want.Loop {
			t.Error("fired elsewhere")
		}
		want.do(func() {
			if len(fired) > 0 {
				t.Error("fired twice")
			}
		})
	}
}

// The write timeout of output that was blocked goes on, and cuts.
func TestMoveWriteTimeout(t *testing.T) {
	o := func(d time.Duration) config {
		return config{writeTimeout: d, handler: func(l *eventloop.Loop) eventloop.Handler {
			return &mover{
				calls: calls{received: func(c *eventloop.Conn, in []byte) int {
					c.WriteStatic(make([]byte, 8<<20))
					return len(in)
				}, timedOut: func(*eventloop.Conn) { t.Error("TimedOut was called") }},
				thaw: func(c *eventloop.Conn, _ []int) error { c.SetTimeout(l.Class(time.Millisecond)); return nil },
			}
		}}
	}
	r := newRelay(t, o(time.Hour), o(50*time.Millisecond))
	c := r.from.dial()
	_, _ = c.Write([]byte("x"))
	blockedIn(r.from)
	r.move()
	r.to.until("it is cut", func() bool { return r.to.Count().Cut == 1 })
	_, _ = io.Copy(io.Discard, c)
}
