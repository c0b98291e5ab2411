package eventloop_test

import (
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/eventloop"
)

func monotonic() uint64 {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now)
	return uint64(now.Nano())
}

// A loop with a Load tells how it does: when it turned, on the kernel's clock, that it
// is busy while it is, what it has open and what it accepted.
func TestLoadIsTold(t *testing.T) {
	var told eventloop.Load
	busy := make(chan uint64)
	before := monotonic()
	s := serve(t, config{Options: eventloop.Options{Load: &told}, handler: func(l *eventloop.Loop) eventloop.Handler {
		return &calls{received: func(_ *eventloop.Conn, in []byte) int {
			busy <- atomic.LoadUint64(&told.Busy)
			return len(in)
		}}
	}})
	c := newClient(t, s)
	c.connect()
	defer c.close()
	if _, err := unix.Write(c.fd, []byte("x")); err != nil {
		t.Fatal(err)
	}
	if n := <-busy; n == 0 {
		t.Error("not busy in the middle of a turn")
	}
	var at eventloop.Load
	s.do(func() {}) // the turn before is over
	s.do(func() { at = told })
	if at.Open != 1 || at.Accepted != 1 || at.Turn < before || at.Turn > monotonic() {
		t.Errorf("%+v between %d and %d, want one connection", at, before, monotonic())
	}
}

// It turns when nothing happens, too, until it drains; one without a Load sleeps.
func TestLoadBeats(t *testing.T) {
	var told eventloop.Load
	handler := func(*eventloop.Loop) eventloop.Handler { return &calls{} }
	patience := func(s *server) (ms int) {
		s.do(func() { ms = s.Patience() })
		return ms
	}
	if ms := patience(serve(t, config{handler: handler})); ms != -1 {
		t.Errorf("without a Load the loop waits %d ms, want for ever", ms)
	}
	s := serve(t, config{Options: eventloop.Options{Load: &told}, handler: handler})
	if ms := patience(s); ms < 1 || ms > 20 {
		t.Errorf("with one it waits %d ms, want 20 at most", ms)
	}
	s.do(s.Drain)
	if ms := patience(s); ms != -1 {
		t.Errorf("when it drains it waits %d ms, want for ever", ms)
	}
}

// What accepts nothing must not look as if it had room.
func TestLoadTellsOfAPause(t *testing.T) {
	var told eventloop.Load
	s := serve(t, config{Options: eventloop.Options{Load: &told, MaxConnections: 1}, handler: func(*eventloop.Loop) eventloop.Handler { return &calls{} }})
	c := newClient(t, s)
	c.connect()
	open := func() (n uint64) {
		s.do(func() { n = told.Open })
		return n
	}
	for end := time.Now().Add(limit); open() < eventloop.Paused; {
		if time.Now().After(end) {
			t.Fatalf("open %d, want the pause in it", open())
		}
	}
	c.close()
	for end := time.Now().Add(limit); open() != 0; {
		if time.Now().After(end) {
			t.Fatalf("open %d after the pause", open())
		}
	}
}
