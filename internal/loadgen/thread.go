package loadgen

import (
	"math"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sys/unix"
)

// thread is one epoll instance with its connections, on one OS thread.
type thread struct {
	load  *Load
	epoll int
	pacer pacer

	conns  []conn // by descriptor
	open   int
	vacant int    // clients that have no connection; unused by a paced load that keeps none
	idle   []int  // kept connections without a request, of a paced load or one that waits for all
	all    int    // connections for which a closed load waits, 0 when it no longer does
	lot    int64  // when it last opened some of these
	last   int64  // when the load began to end
	text   []byte // a request
	buf    []byte
	expect int // bytes of the usual answer, 0 until one has been seen
	now    int64

	connects, answered, failed, lost, shut atomic.Uint64

	latency, late *hdrhistogram.Histogram
}

// glance is how often a waiting thread checks whether the load is ending.
const glance = 10 // ms

func newThread(l *Load, i int) (*thread, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	t := &thread{load: l, epoll: epoll, buf: make([]byte, 16<<10), last: math.MaxInt64, latency: newHistogram(), late: newHistogram()}
	t.text, t.expect = requestOf(l.config)
	if l.config.Rate == 0 || l.config.Kept {
		t.vacant = share(l.config.Connections, l.config.Threads, i)
	}
	if l.config.Together && l.config.Kept && l.config.Rate == 0 {
		t.all = t.vacant
	}
	if l.config.Rate == 0 {
		t.pacer.timer = -1
	} else if t.pacer, err = newPacer(epoll, l.config, i); err != nil {
		_ = unix.Close(epoll)
		return nil, err
	}
	return t, nil
}

// share returns the i-th of n parts of a whole.
func share(whole, n, i int) int { return whole*(i+1)/n - whole*i/n }

func (t *thread) run() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer t.close()
	events := make([]unix.EpollEvent, 128)
	for {
		t.now = t.load.now()
		if t.load.ending.Load() {
			t.last = min(t.last, t.now)
		}
		t.begin()
		if t.ending() && (t.open == 0 || t.now > t.last+int64(patience)) {
			return
		}
		n, err := unix.EpollWait(t.epoll, events, glance)
		if err != nil && err != unix.EINTR {
			return // a programming error: everything that was begun is lost
		}
		t.now = t.load.now()
		for i := range max(n, 0) {
			t.handle(int(events[i].Fd), events[i].Events)
		}
	}
}

func (t *thread) ending() bool { return t.last != math.MaxInt64 }

// begin begins what is due.
func (t *thread) begin() {
	kept, paced := t.load.config.Kept, t.load.config.Rate > 0
	if !t.ending() && (kept || !paced) {
		for n := t.lotOf(t.vacant); n > 0; n-- {
			t.vacant--
			t.connect(t.now)
		}
	}
	if t.all > 0 {
		t.await()
	}
	switch {
	case kept && paced:
		t.send()
	case paced:
		t.connectDue()
	}
}

// lotOf returns how many of the vacant connections to open now. A load that waits for all opens them slowly, so
// as not to overflow the server's queue: a client may then see a connection as established that the server
// doesn't have.
func (t *thread) lotOf(vacant int) int {
	const lot, pause = 200, int64(10 * time.Millisecond)
	switch {
	case t.all == 0:
		return vacant
	case t.now < t.lot+pause:
		return 0
	}
	t.lot = t.now
	return min(vacant, lot)
}

// await sends the first requests when all connections are established. A load that ends before sends
// none.
func (t *thread) await() {
	if len(t.idle) < t.all && !t.ending() {
		return
	}
	t.all = 0
	for fd := t.takeIdle(); fd >= 0; fd = t.takeIdle() {
		if t.ending() {
			t.end(fd)
			continue
		}
		c := &t.conns[fd]
		c.answered, c.started = false, t.now
		t.request(fd)
	}
}

// close closes what is still open. Its requests are lost, and so are those that were due and found no
// connection.
func (t *thread) close() {
	for t.ending() && t.pacer.timer >= 0 && t.pacer.next <= t.last {
		t.lost.Add(1)
		t.took(t.due(), never)
	}
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

// never is the time of an answer that doesn't come: its latency is the longest, even if the
// failure is noticed soon.
const never = math.MaxInt64

// took records how long an answer took.
func (t *thread) took(started, until int64) {
	if t.load.recorded(started) {
		_ = t.latency.RecordValue(min(until-started, int64(Longest)))
	}
}
