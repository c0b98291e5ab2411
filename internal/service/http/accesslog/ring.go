package accesslog

import (
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// ringSize is the room for lines that were not written yet, in bytes; a power of
// two.
const ringSize = 1 << 20

// ring carries lines from one loop to the access log's writer. The loop puts,
// the writer takes; neither waits for the other.
type ring struct {
	buf  []byte
	head atomic.Uint64 // bytes put; only the loop writes it
	tail atomic.Uint64 // bytes taken; only the writer writes it
}

func newRing() *ring { return &ring{buf: make([]byte, ringSize)} }

// put adds one line, or returns false if there is no room for all of it.
func (r *ring) put(line []byte) bool {
	head := r.head.Load()
	if uint64(len(line)) > ringSize-(head-r.tail.Load()) {
		return false
	}
	at := int(head % ringSize)
	n := copy(r.buf[at:], line)
	copy(r.buf, line[n:])
	r.head.Store(head + uint64(len(line)))
	return true
}

// take returns what was put, in two pieces where it wraps around.
func (r *ring) take() (a, b []byte) {
	tail, head := r.tail.Load(), r.head.Load()
	from, to := int(tail%ringSize), int(head%ringSize)
	switch {
	case head == tail:
		return nil, nil
	case from < to:
		return r.buf[from:to], nil
	default:
		return r.buf[from:], r.buf[:to]
	}
}

// flush writes everything that was put: whole lines by one writev(2), so that the lines
// of several processes that append to one file don't mix. What can't be written is
// dropped; it returns the number of such lines.
func (r *ring) flush(fd int) (lost uint64) {
	a, b := r.take()
	total := len(a) + len(b)
	for len(a)+len(b) > 0 {
		n, err := unix.Writev(fd, [][]byte{a, b})
		if err == unix.EINTR {
			continue
		}
		if err == unix.EAGAIN {
			waitWritable(fd)
			continue
		}
		if err != nil || n <= 0 {
			lost = lines(a) + lines(b)
			break
		}
		k := min(n, len(a))
		a, b = a[k:], b[n-k:]
	}
	r.tail.Add(uint64(total))
	return lost
}

func lines(b []byte) (n uint64) {
	for _, c := range b {
		if c == '\n' {
			n++
		}
	}
	return n
}

// waitWritable waits until a non-blocking pipe or terminal can be written to, but not for
// ever.
func waitWritable(fd int) {
	_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, 100)
}
