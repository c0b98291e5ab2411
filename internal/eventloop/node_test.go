package eventloop_test

import (
	"io"
	"testing"
	"time"

	"reuseportd/internal/eventloop"
)

// alarm is something that has a timer.
type alarm struct {
	name  string
	timer eventloop.Timer
	rings func(a *alarm)
}

func (a *alarm) TimedOut(t *eventloop.Timer) {
	if t != &a.timer || t.Armed() {
		panic("another's timer, or one that is armed")
	}
	a.rings(a)
}

// Each of a connection's timers has its own time, beside the connection's; one is armed anew, disarmed, armed with what was
// left of its time, and what it has queued is written.
func TestTimers(t *testing.T) {
	var conn *eventloop.Conn
	s := one(t, &calls{
		opened:   func(c *eventloop.Conn) { conn = c },
		timedOut: func(c *eventloop.Conn) { c.Write([]byte("own ")) },
	})
	c := s.dial()
	s.until("it is open", func() bool { return conn != nil })
	rings := func(a *alarm) { conn.Write([]byte(a.name + " ")) }
	all := make([]alarm, 5)
	for i := range all {
		all[i] = alarm{name: string(rune('a' + i)), rings: rings}
	}
	all[4].rings = func(a *alarm) {
		rings(a)
		conn.Finish(false)
	}
	long, short, last := time.Hour, time.Millisecond, 50*time.Millisecond
	s.do(func() {
		conn.Arm(&all[0].timer, s.Class(long), &all[0])
		conn.Arm(&all[1].timer, s.Class(long), &all[1])
		conn.ArmLeft(&all[2].timer, s.Class(long), 2*short, &all[2])
		conn.Arm(&all[3].timer, s.Class(short), &all[3])
		if left := all[1].timer.Left(); left <= long-time.Minute || left > long {
			t.Errorf("%v are left", left)
		}
		all[3].timer.Disarm()
		if all[3].timer.Armed() || all[3].timer.Left() != 0 {
			t.Error("it is armed still")
		}
		conn.Arm(&all[0].timer, s.Class(short), &all[0])
		conn.SetTimeout(s.Class(3 * short))
	})
	s.until("they have rung", func() bool { return !all[0].timer.Armed() && !all[2].timer.Armed() && conn.Timeout() == 0 })
	s.do(func() { conn.Arm(&all[4].timer, s.Class(last), &all[4]) })
	got, err := io.ReadAll(c)
	if len(got) != len("a c own e ") || string(got[len(got)-2:]) != "e " || err != nil {
		t.Errorf("got %q, error %v", got, err)
	}
	// b's time has not come, and its connection's is over.
	s.do(func() {
		conn.ArmLeft(&all[1].timer, s.Class(long), short, &all[1])
		if all[1].timer.Armed() {
			t.Error("a closed connection's timer is armed")
		}
	})
}

// A timer that is due when its connection has ended, or is on its way, or is another's by now, rings nobody; a panic costs
// its connection.
func TestTimersOfOthers(t *testing.T) {
	var conns []*eventloop.Conn
	s := one(t, &mover{calls: calls{opened: func(c *eventloop.Conn) { conns = append(conns, c) }}})
	rung := 0
	first := &alarm{rings: func(*alarm) { rung++ }}
	c := s.dial()
	s.until("it is open", func() bool { return len(conns) == 1 })
	s.do(func() {
		conns[0].Arm(&first.timer, s.Class(time.Millisecond), first)
		conns[0].Close()
	})
	_, _ = io.ReadAll(c)
	s.until("the timer is over", func() bool { return !first.timer.Armed() })

	c = s.dial()
	s.until("another is open", func() bool { return len(conns) == 2 })
	var d []eventloop.Departure
	s.do(func() {
		s.DrainTo(nil)
		d = s.Depart(1)
	})
	due := uint64(0)
	s.do(func() {
		conns[1].Arm(&first.timer, s.Class(time.Millisecond), first)
		due = s.Count().Turns
	})
	s.until("it was due more than once", func() bool { return s.Count().Turns > due+20 })
	s.do(func() {
		if rung != 0 || !first.timer.Armed() {
			t.Errorf("rung %d times, armed is %v", rung, first.timer.Armed())
		}
		s.Return(&d[0], false)
	})
	s.until("it has rung", func() bool { return rung == 1 })
	s.do(func() {
		first.rings = func(*alarm) { panic("a timer") }
		conns[1].Arm(&first.timer, s.Class(time.Millisecond), first)
	})
	if _, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("read: %v", err)
	}
	if n := s.count(); n.Panics != 1 || n.Open != 0 {
		t.Errorf("counted %+v", n)
	}
}
