package logging

import (
	"bytes"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// maxQueue bounds the queue, in bytes.
	maxQueue = 256 << 10
	// lineCost is what a queued line takes besides its text, in bytes.
	lineCost = 64
	// atOnce is how much one write(2) writes, in bytes: PIPE_BUF, which a pipe takes as a whole, so
	// that the lines of several processes don't mix.
	atOnce = 4096
	// maxRetired is how many retired outputs may still be writing. If there are more, their
	// files hang.
	maxRetired = 4
)

// dropped counts the lines that this process has dropped, retired counts the outputs that still
// have lines to write or a file to close.
var (
	dropped atomic.Uint64
	retired atomic.Int64
)

// Dropped returns how many lines this process has dropped.
func Dropped() uint64 { return dropped.Load() }

// Crowded reports whether so many retired outputs are still writing that no more should
// be retired.
func Crowded() bool { return retired.Load() >= maxRetired }

// File names a file by device and inode; the zero File is unknown.
type File struct{ Dev, Ino uint64 }

// Output is a file that lines are written to.
//
// Its descriptor is used as it is: O_NONBLOCK belongs to the open file, which for a standard stream is also the
// shell's and its terminal's.
type Output struct {
	fd   int
	file File

	mu      sync.Mutex
	more    sync.Cond // of mu: there is something for the goroutine to do
	queue   []item
	size    int       // of the queue, as bounded by maxQueue
	writing time.Time // when the current write began, zero if none is in progress
	lost    uint64    // lines dropped
	told    uint64    // …and reported by a line
	lastErr error     // the latest write error that was not reported
	leaving bool
	notice  func(lines uint64, why error) []byte
}

// item is a line, or a mark that is closed when all lines before it have been written or
// dropped.
type item struct {
	line []byte
	mark chan struct{}
}

// NewOutput makes an Output that writes to fd. Retire closes fd, unless it is a standard
// stream.
func NewOutput(fd int, file File) *Output {
	o := &Output{fd: fd, file: file}
	o.more.L = &o.mu
	go o.run()
	return o
}

// Stderr is the standard error stream.
var Stderr = sync.OnceValue(func() *Output { return NewOutput(unix.Stderr, File{}) })

// FD returns the descriptor.
func (o *Output) FD() int { return o.fd }

// Is reports whether o writes to f. If so there is no need for another output, which might
// have to wait like this one.
func (o *Output) Is(f File) bool { return f != File{} && f == o.file }

// Write implements io.Writer. It queues p, which must be whole lines, or drops it. It never
// fails.
func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if cost := len(p) + lineCost; !o.leaving && o.size+cost <= maxQueue {
		o.size += cost
		o.queue = append(o.queue, item{line: append([]byte(nil), p...)})
		o.more.Signal()
	} else {
		o.drop(1)
	}
	return len(p), nil
}

func (o *Output) drop(n int) {
	o.lost += uint64(n)
	dropped.Add(uint64(n))
}

// Stalled returns since when the current write(2) has been waiting, zero if it has hardly
// begun.
func (o *Output) Stalled(now time.Time) time.Time {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.writing.IsZero() || now.Sub(o.writing) < time.Second {
		return time.Time{}
	}
	return o.writing
}

// Flush waits until everything queued before is written or dropped, but no longer than
// within.
func (o *Output) Flush(within time.Duration) {
	mark := make(chan struct{})
	o.mu.Lock()
	if o.leaving {
		o.mu.Unlock()
		return
	}
	o.queue = append(o.queue, item{mark: mark})
	o.more.Signal()
	o.mu.Unlock()
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case <-mark:
	case <-timer.C:
	}
}

// Retire makes o take no more lines, and close the file when the queued ones are written. It doesn't wait for
// that.
func (o *Output) Retire() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.leaving {
		retired.Add(1)
		o.leaving = true
		o.more.Signal()
	}
}

// run is the goroutine that writes.
func (o *Output) run() {
	for {
		batch, ok := o.next()
		if !ok {
			break
		}
		o.wrote(writeAll(o.fd, batch))
	}
	if o.fd > unix.Stderr {
		_ = unix.Close(o.fd)
	}
	retired.Add(-1)
}

// next waits for lines, and returns as many as one write takes. It returns false when a retired
// output has written everything.
func (o *Output) next() (batch []byte, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for {
		for len(o.queue) > 0 && o.queue[0].mark != nil {
			close(o.queue[0].mark)
			o.queue = o.queue[1:]
		}
		if len(o.queue) > 0 {
			break
		}
		if o.leaving {
			return nil, false
		}
		o.more.Wait()
	}
	for len(o.queue) > 0 && o.queue[0].mark == nil {
		line := o.queue[0].line
		if len(batch) > 0 && len(batch)+len(line) > atOnce {
			break
		}
		batch = append(batch, line...)
		o.size -= len(line) + lineCost
		o.queue[0] = item{}
		o.queue = o.queue[1:]
	}
	o.writing = time.Now()
	return batch, true
}

// wrote records the result of a write; left is what was not written. When lines can be written again and the queue has
// emptied by half, it adds a line about those that were dropped.
func (o *Output) wrote(left []byte, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.writing = time.Time{}
	if err != nil {
		o.lastErr = err
		o.drop(max(1, bytes.Count(left, []byte{'\n'})))
		return
	}
	if o.lost == o.told || o.size > maxQueue/2 || o.notice == nil {
		return
	}
	line := o.notice(o.lost-o.told, o.lastErr)
	o.told, o.lastErr = o.lost, nil
	o.size += len(line) + lineCost
	o.queue = append(o.queue, item{line: line})
}

// writeAll writes b. It returns what was not written, and why.
func writeAll(fd int, b []byte) ([]byte, error) {
	for len(b) > 0 {
		n, err := unix.Write(fd, b)
		switch {
		case n > 0:
			b = b[n:]
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN): // another user of the stream has made it non-blocking
			_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, 1000)
		case err != nil:
			return b, err
		default:
			return b, unix.EIO
		}
	}
	return nil, nil
}
