package loadgen

import (
	"time"

	"golang.org/x/sys/unix"
)

// connectDue begins the connections that are due, as long as not too many are open. When the load is ending, only
// what was due before.
func (t *thread) connectDue() {
	most := share(t.load.config.Connections, t.load.config.Threads, 0)
	for t.pacer.next <= min(t.now, t.last) && t.open < most {
		t.connect(t.due())
		t.now = t.load.now()
	}
	if t.open < most { // otherwise the end of a connection wakes us
		t.pacer.arm(t.now)
	}
}

// send sends the requests that are due on connections that are idle. When the load is
// ending, only what was due before; then it closes idle connections.
func (t *thread) send() {
	for t.pacer.next <= min(t.now, t.last) {
		fd := t.takeIdle()
		if fd < 0 {
			return // the next answer wakes us
		}
		c := &t.conns[fd]
		c.answered, c.got, c.started = false, 0, t.due()
		t.request(fd)
		t.now = t.load.now()
	}
	if !t.ending() {
		t.pacer.arm(t.now)
		return
	}
	for fd := t.takeIdle(); fd >= 0; fd = t.takeIdle() {
		t.end(fd)
	}
}

// due returns when the next connection or request was due, and advances to the one after
// it.
func (t *thread) due() int64 {
	due := t.pacer.next
	t.pacer.next += t.pacer.every
	if t.load.recorded(due) {
		_ = t.late.RecordValue(t.now - due) // a value that is too long is ignored
	}
	return due
}

// takeIdle returns the connection that has been idle for longest, -1 if none is.
func (t *thread) takeIdle() int {
	for len(t.idle) > 0 {
		fd := t.idle[0]
		t.idle = t.idle[1:]
		// The server may have closed it, and its number may have been reused.
		if c := &t.conns[fd]; c.open && !c.connecting && c.answered {
			return fd
		}
	}
	return -1
}

// pacer determines when a paced thread begins its next connection, or sends its next
// request.
type pacer struct {
	timer       int   // timerfd(2) in the epoll instance, -1 for a closed load
	next, every int64 // ns
}

func newPacer(epoll int, c Config, i int) (pacer, error) {
	timer, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return pacer{}, err
	}
	// Edge-triggered, so it needn't be read: each setting causes one event.
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: int32(timer)}
	if err := unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, timer, &ev); err != nil {
		_ = unix.Close(timer)
		return pacer{}, err
	}
	each := float64(time.Second) / c.Rate
	return pacer{timer: timer, next: int64(each * float64(i)), every: int64(each * float64(c.Threads))}, nil
}

// arm sets the timer, which is more precise than the milliseconds of epoll_wait.
func (p *pacer) arm(now int64) {
	wait := unix.NsecToTimespec(max(1, p.next-now))
	_ = unix.TimerfdSettime(p.timer, 0, &unix.ItimerSpec{Value: wait}, nil)
}
