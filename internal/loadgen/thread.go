package loadgen

import (
	"math"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sys/unix"
)

// thread is one epoll instance and its connections, all of one OS thread.
type thread struct {
	load  *Load
	epoll int
	pacer pacer

	conns  []conn // by descriptor
	open   int
	vacant int // clients of a closed load that have no connection
	buf    []byte
	expect int // bytes of a whole answer, 0 until one was seen
	now    int64

	connects, answered, failed, lost atomic.Uint64

	latency, late *hdrhistogram.Histogram
}

// glance is how often a thread that waits looks whether the load is ending.
const glance = 10 // ms

func newThread(l *Load, i int) (*thread, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	t := &thread{load: l, epoll: epoll, buf: make([]byte, 16<<10), latency: newHistogram(), late: newHistogram()}
	if l.config.Rate == 0 {
		t.pacer.timer = -1
		t.vacant = share(l.config.Connections, l.config.Threads, i)
	} else if t.pacer, err = newPacer(epoll, l.config, i); err != nil {
		_ = unix.Close(epoll)
		return nil, err
	}
	return t, nil
}

// share is the i-th of n parts of a whole.
func share(whole, n, i int) int { return whole*(i+1)/n - whole*i/n }

func (t *thread) run() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer t.close()
	events := make([]unix.EpollEvent, 128)
	end := int64(math.MaxInt64)
	for {
		t.now = t.load.now()
		switch {
		case !t.load.ending.Load():
			t.begin()
		case end == math.MaxInt64:
			end = t.now + int64(patience)
		}
		if end != math.MaxInt64 && (t.open == 0 || t.now > end) {
			return
		}
		n, err := unix.EpollWait(t.epoll, events, glance)
		if err != nil && err != unix.EINTR {
			return // a programming error: all that was begun is lost
		}
		t.now = t.load.now()
		for i := range max(n, 0) {
			t.handle(int(events[i].Fd), events[i].Events)
		}
	}
}

// begin begins what is due.
func (t *thread) begin() {
	if t.pacer.timer < 0 {
		for n := t.vacant; n > 0; n-- {
			t.vacant--
			t.connect(t.now)
		}
		return
	}
	most := share(t.load.config.Connections, t.load.config.Threads, 0)
	for due := t.pacer.next; due <= t.now && t.open < most; due = t.pacer.next {
		t.pacer.next += t.pacer.every
		if t.load.recorded(due) {
			_ = t.late.RecordValue(t.now - due) // what is too long for it is no latency of ours
		}
		t.connect(due)
		t.now = t.load.now()
	}
	if t.open < most { // else the end of a connection wakes us
		t.pacer.arm(t.now)
	}
}

// close ends what is still open; its requests are lost.
func (t *thread) close() {
	for fd := range t.conns {
		if t.conns[fd].open {
			t.lose(fd)
		}
	}
	if t.pacer.timer >= 0 {
		_ = unix.Close(t.pacer.timer)
	}
	_ = unix.Close(t.epoll)
}

// took keeps how long an answer took.
func (t *thread) took(started, until int64) {
	if t.load.recorded(started) {
		_ = t.latency.RecordValue(min(until-started, int64(Longest)))
	}
}

// pacer says when a paced thread begins its next connection.
type pacer struct {
	timer       int   // timerfd(2) in the epoll instance, -1 of a closed load
	next, every int64 // ns
}

func newPacer(epoll int, c Config, i int) (pacer, error) {
	timer, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return pacer{}, err
	}
	// Edge-triggered, and so never read: each setting rings once.
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: int32(timer)}
	if err := unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, timer, &ev); err != nil {
		_ = unix.Close(timer)
		return pacer{}, err
	}
	each := float64(time.Second) / c.Rate
	return pacer{timer: timer, next: int64(each * float64(i)), every: int64(each * float64(c.Threads))}, nil
}

// arm sets the timer, which is more exact than epoll_wait's milliseconds.
func (p *pacer) arm(now int64) {
	wait := unix.NsecToTimespec(max(1, p.next-now))
	_ = unix.TimerfdSettime(p.timer, 0, &unix.ItimerSpec{Value: wait}, nil)
}
