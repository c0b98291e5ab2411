package eventloop_test

import (
	"fmt"
	"io"
	"testing"
	"time"

	"reuseportd/internal/eventloop"
)

// Every one of a thousand connections is given out once, in chunks, in the order
// of the deadlines of each timeout.
func TestDepartThousand(t *testing.T) {
	const conns = 1000
	opened := 0
	r := moves(t, func(l *eventloop.Loop) *mover {
		classes := []eventloop.Class{0, l.Class(time.Hour), l.Class(2 * time.Hour)}
		return &mover{
			calls: calls{opened: func(c *eventloop.Conn) {
				c.State = fmt.Sprint(opened)
				c.SetTimeout(classes[opened%3])
				opened++
			}, received: echoes},
			thaw: func(c *eventloop.Conn, _ []int) error { c.SetTimeout(classes[1]); return nil },
		}
	})
	clients := make([]*tcp, conns)
	for i := range clients {
		clients[i] = r.from.dial()
	}
	r.from.until("all are open", func() bool { return r.from.Open() == conns })
	r.drain()
	seen := make(map[string]bool)
	for {
		ds := r.from.depart(64)
		if len(ds) == 0 {
			break
		}
		if len(ds) > 64 {
			t.Fatalf("%d in one chunk", len(ds))
		}
		last := map[time.Duration]time.Duration{} // by the hour
		for i := range ds {
			d := &ds[i]
			if seen[string(d.State)] {
				t.Fatalf("connection %s was given out twice", d.State)
			}
			seen[string(d.State)] = true
			hour := d.Due.Round(time.Hour)
			if d.Due < last[hour] {
				t.Errorf("due in %v behind one due in %v", d.Due, last[hour])
			}
			last[hour] = d.Due
		}
		r.from.give(r.to, ds)
	}
	if len(seen) != conns {
		t.Errorf("%d were given out", len(seen))
	}
	if n, m := r.from.count(), r.to.count(); n.HandedOver != conns || n.Open != 0 || m.TakenOver != conns || m.Open != conns {
		t.Errorf("counted %+v, %+v", n, m)
	}
	for _, c := range clients {
		ping(t, c)
	}
}

// Depart keeps to the descriptors that it may give out, but gives one connection
// at least.
func TestDepartBoundsDescriptors(t *testing.T) {
	for most, want := range map[int]string{
		1: "[1 1 1 1 1]", 2: "[1 1 1 1 1]", 3: "[1 1 1 1 1]", 5: "[1 1 1 1 1]", 6: "[2 2 1]", 8: "[2 2 1]", 15: "[5]", 99: "[5]",
	} {
		r := moves(t, func(*eventloop.Loop) *mover {
			return &mover{freeze: func(*eventloop.Conn) []int { return []int{0, 0} }}
		})
		for range 5 {
			r.from.dial()
		}
		r.from.until("all are open", func() bool { return r.from.Open() == 5 })
		r.drain()
		var got []int
		for {
			ds := r.from.depart(most)
			if len(ds) == 0 {
				break
			}
			got = append(got, len(ds))
		}
		if fmt.Sprint(got) != want {
			t.Errorf("with %d: %v, want %v", most, got, want)
		}
	}
}

// Depart stops when it has given out enough bytes for one turn.
func TestDepartBoundsBytes(t *testing.T) {
	const conns, each = 40, 60 << 10
	r := moves(t, func(*eventloop.Loop) *mover {
		return &mover{calls: calls{received: func(*eventloop.Conn, []byte) int { return 0 }}}
	})
	for range conns {
		c := r.from.dial()
		if _, err := c.Write(make([]byte, each)); err != nil {
			t.Fatal(err)
		}
	}
	r.from.until("all is read", func() bool { return r.from.Count().BytesIn == conns*each })
	r.drain()
	total := 0
	for {
		ds := r.from.depart(1000)
		if len(ds) == 0 {
			break
		}
		if total += len(ds); total < conns && len(ds) != (eventloop.MaxDepart+each-1)/each {
			t.Errorf("%d in one chunk", len(ds))
		}
	}
	if total != conns {
		t.Errorf("%d were given out", total)
	}
}

// leavings is a relay whose handler notes what Leaving says, and its first loop.
func leavings(t *testing.T) (r *relay, leaving func(c *tcp) bool) {
	told := make(chan bool, 1)
	r = moves(t, func(*eventloop.Loop) *mover {
		return &mover{calls: calls{received: func(c *eventloop.Conn, in []byte) int {
			told <- c.Leaving()
			return echoes(c, in)
		}}}
	})
	return r, func(c *tcp) bool {
		t.Helper()
		ping(t, c)
		return <-told
	}
}

// Connections are told to end only when nobody will take them.
func TestLeaving(t *testing.T) {
	r, leaving := leavings(t)
	c := r.from.dial()
	want := func(when string, leave bool) {
		t.Helper()
		if leaving(c) != leave {
			t.Errorf("%s: Leaving is %v", when, !leave)
		}
	}
	give := func() *eventloop.Departure {
		t.Helper()
		ds := r.from.depart(10)
		if len(ds) != 1 {
			t.Fatalf("%d were given out, want 1", len(ds))
		}
		return &ds[0]
	}
	back := func(d *eventloop.Departure, again bool) { r.from.do(func() { r.from.Return(d, again) }) }
	want("before the drain", false)
	r.drain()
	want("while somebody may take it", false)
	back(give(), true)
	want("when it comes back for another try", false)
	back(give(), false)
	want("when nobody takes it", true)
	if n := len(r.from.depart(10)); n != 0 {
		t.Errorf("%d were given out again", n)
	}
	fresh := c
	c = r.from.dial()
	want("accepted while draining", false)
	d := give()
	r.from.do(r.from.Stay)
	back(d, true)
	want("when it comes back too late", true)
	if n := len(r.from.depart(10)); n != 0 {
		t.Errorf("%d were given out after Stay", n)
	}
	c = r.from.dial()
	want("accepted after Stay", true)
	c = fresh
	want("after Stay", true)
	r.drain()
	if n := len(r.from.pass(r.to)); n != 3 {
		t.Errorf("%d moved, want 3", n)
	}
	want("elsewhere", false)
}

// Stay while a connection is away, then a new hope before it comes back: it is
// given out once more, and once only.
func TestDrainToAgainWhileAway(t *testing.T) {
	for _, again := range []bool{false, true} {
		r, leaving := leavings(t)
		c := r.from.dial()
		leaving(c)
		r.drain()
		d := r.from.depart(1)[0]
		r.from.do(r.from.Stay)
		r.drain()
		r.drain()
		r.from.do(func() { r.from.Return(&d, again) })
		want := 0
		if again {
			want = 1
		}
		ds := r.from.depart(10)
		if more := r.from.depart(10); len(ds) != want || len(more) > 0 {
			t.Errorf("again=%v: %d were given out, then %d", again, len(ds), len(more))
		}
		for i := range ds {
			r.from.do(func() { r.from.Return(&ds[i], false) })
		}
		if !leaving(c) {
			t.Errorf("again=%v: it isn't told to end", again)
		}
	}
}

// leaving is called when there is something to give out again, and once for all of
// it.
func TestLeavingIsTold(t *testing.T) {
	told := 0
	r := moves(t, func(*eventloop.Loop) *mover { return &mover{calls: calls{received: echoes}} })
	want := func(when string, n int) {
		t.Helper()
		r.from.do(func() {
			if told != n {
				t.Errorf("%s: told %d times, want %d", when, told, n)
			}
		})
	}
	r.from.do(func() { r.from.DrainTo(func() { told++ }) })
	want("of nothing", 0)
	for range 3 {
		ping(t, r.from.dial())
	}
	want("of what was accepted", 1)
	ds := r.from.depart(2)
	r.from.do(func() { r.from.Return(&ds[0], true) })
	want("while one is left", 1)
	r.from.depart(2)
	want("of nothing new", 1)
	r.from.do(func() { r.from.Return(&ds[1], true) })
	want("of what came back", 2)
}

// A loop that drains by now itself passes on what came to it, once.
func TestMoveOn(t *testing.T) {
	for _, late := range []bool{false, true} {
		r := moves(t, func(*eventloop.Loop) *mover { return &mover{calls: calls{received: echoes}} })
		c := r.from.dial()
		ping(t, c)
		r.drain()
		if !late {
			r.to.do(func() { r.to.DrainTo(nil) })
		}
		d := r.from.depart(1)[0]
		conn, err := r.to.arrive(&d)
		if err != nil {
			t.Fatal(err)
		}
		if late { // between its arrival and its beginning
			r.to.do(func() { r.to.DrainTo(nil) })
		}
		if n := len(r.to.depart(10)); n != 0 {
			t.Errorf("late=%v: %d were given out before they began", late, n)
		}
		r.from.do(func() { r.from.Departed(&d) })
		r.to.do(func() { r.to.Begin(conn) })
		ds := r.to.depart(10)
		if len(ds) != 1 {
			t.Fatalf("late=%v: %d were given out", late, len(ds))
		}
		r.to.do(func() { r.to.Return(&ds[0], false) })
		if n := len(r.to.depart(10)); n != 0 {
			t.Errorf("late=%v: %d were given out twice", late, n)
		}
		ping(t, c)
		_ = c.CloseWrite()
		_, _ = io.Copy(io.Discard, c)
	}
}

// A service whose connections can't move keeps them to their end.
func TestDepartOfNoMover(t *testing.T) {
	told := make(chan bool, 1)
	r := newRelay(t, config{handler: func(*eventloop.Loop) eventloop.Handler {
		return &calls{received: func(c *eventloop.Conn, in []byte) int {
			told <- c.Leaving()
			return echoes(c, in)
		}}
	}})
	c := r.from.dial()
	ping(t, c)
	<-told
	r.drain()
	if n := len(r.from.depart(10)); n != 0 {
		t.Errorf("%d were given out", n)
	}
	ping(t, c)
	if !<-told {
		t.Error("it isn't told to end")
	}
}
