package eventloop

import (
	"time"

	"golang.org/x/sys/unix"
)

// Load is what a loop tells whoever steers connections to it, about itself and
// without a system call: it may lie in memory that the kernel reads. Each is one
// aligned word, written by the loop's goroutine alone and with plain stores.
type Load struct {
	Turn     uint64 // when the latest turn began, CLOCK_MONOTONIC in nanoseconds
	Busy     uint64 // events of the turn in progress; 0 while the loop waits
	Open     uint64 // open connections; Paused is added while it accepts none
	Accepted uint64 // connections accepted, and not only those that were steered
}

// Paused in Load.Open makes a loop that accepts nothing for want of room lose
// against any that does.
const Paused = 1 << 32

// heartbeat is the longest that a loop with a Load waits: one that is idle and
// one that is stopped must not look the same.
const heartbeat = 20 * time.Millisecond

// publisher writes a Load.
type publisher struct {
	*Load       // nil when nobody wants to know
	epoch int64 // of Loop.now, CLOCK_MONOTONIC in nanoseconds
}

// monotonic returns what CLOCK_MONOTONIC was at start, in nanoseconds.
func monotonic(start time.Time) (int64, error) {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return 0, err
	}
	return now.Nano() - int64(time.Since(start)), nil
}

// turn tells that a turn with so many events begins.
func (p *publisher) turn(now int64, events int) {
	p.Turn, p.Busy = uint64(p.epoch+now), uint64(events)
}

// turned tells what the loop has at the end of a turn.
func (l *Loop) turned() {
	o := l.count.Open
	if l.rest != 0 {
		o += Paused
	}
	l.load.Open, l.load.Accepted, l.load.Busy = o, l.count.Accepted, 0
}

// patience is how many milliseconds the loop may wait for events, -1 for ever.
func (l *Loop) patience() int {
	wait := l.nearest()
	if l.load.Load != nil && !l.draining && (wait < 0 || wait > int(heartbeat/time.Millisecond)) {
		return int(heartbeat / time.Millisecond)
	}
	return wait
}
