package eventloop

import (
	"fmt"
	"math"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// special marks events that are not a connection's.
	special = 1 << 31
	// watchIn is what every connection is watched for.
	watchIn = unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLPRI | unix.EPOLLET
	// maxEvents is how many events one turn takes.
	maxEvents = 512
	// lingerTimeout is how long a finished connection waits for its peer.
	lingerTimeout = 2 * time.Second
)

// Options are what a loop is made with.
type Options struct {
	// Counters is where the loop counts; nil is memory of its own.
	Counters *Counters
	// Load is where the loop tells how it does; nil is nowhere. With it, the loop
	// turns every 20 ms at least, until it drains.
	Load *Load
	// Memory bounds what the loops of a process hold, this one among them; nil is no bound.
	Memory *Memory
	// MaxConnections pauses accepting; 0 is no limit.
	MaxConnections int
	// Budget is the process's, of all its loops; nil is no bound but the kernel's.
	Budget *Budget
	// Crowded is called when connections were closed to make room for others, or others had to
	// wait, at most every ten seconds: for MaxConnections if full is set, else for descriptors.
	Crowded func(full bool)
	// MaxMessage is the most that a handler may leave unconsumed, and the size
	// of a read, in bytes; 64 KiB if 0.
	MaxMessage int
	// Panicked is told of a panic in a handler, whose connection is closed.
	Panicked func(value any, stack []byte)
	// Empty is called when the loop drains and has no connection, each time
	// that this becomes true.
	Empty func()
}

// mark names one use of a descriptor.
type mark struct {
	c   *Conn
	gen uint32
}

// Loop is one event loop.
type Loop struct {
	epfd, wakefd int32
	reserve      int32 // a descriptor for acceptLast. Invariant: -1 only in a pause

	// Owned by the loop's goroutine.
	table     table
	listeners []*Listener
	watchers  []watcher
	classes   []class // classes[0] is unused: no timeout
	polite    queue   // connections that can go on
	greedy    queue   // …and had used up their share
	left      int     // of the share of the connection that is driven, in work
	scarce    scarcity
	done      int      // work since the clock was last looked at
	closing   []closed // ended, descriptors still open
	reported  int      // of those, the first so many
	owed      int      // places that Dial has taken from clients: see yieldPlaces
	driven    *Conn    // nil between two
	cause     unix.Errno
	expired   Class
	buffers   buffers
	outputs   Spare[*output]
	ties      Spare[*tie]
	pipes     Spare[*pipe]
	piping    int // pipes that are lent
	mem       holding
	seals     seals
	wire      []byte // where what is sealed is read, if anything is
	scratch   []byte // where input is read and presented; maxMessage and one byte
	events    [maxEvents]unix.EpollEvent
	iov       [2]unix.Iovec
	msg       unix.Msghdr
	peer      unix.RawSockaddrAny

	count       *Counters
	memory      *Memory
	bound       Bound // any service's
	doubts      []doubt
	load        publisher
	maxMessage  int
	polling     luck // asking for events without blocking
	early       luck // reading from a fresh connection before it is watched
	live        int  // open connections
	limit       int  // 0 is none
	budget      *Budget
	crowded     crowded
	mutexes     int     // listeners that have one
	fresh       []int32 // accepted, not served yet
	vain        int     // events of this turn that had nothing to accept
	yielded     int64   // when the loop last let the scheduler run, on the clock of now
	rest        rest
	restClosed  uint64 // Counters.Closed when the pause began
	resumeAt    int64  // 0, or when a pause for want of descriptors ends
	lingerClass Class
	spentClass  Class // of those that linger and were closed for others
	draining    bool
	moving      bool   // …and another process is to have the connections
	maxTogether int    // more than the constant, in tests
	departing   []mark // those that Depart will give out
	nudge       func() // departing was empty and is no more
	emptied     bool   // Empty was called and nothing opened since
	stopped     bool

	start time.Time
	epoch int64     // CLOCK_MONOTONIC at start, nanoseconds
	wall  time.Time // this turn's
	now   int64     // nanoseconds since start, this turn's

	panicked func(any, []byte)
	empty    func()

	spare []func() // posts that are being called

	mu    sync.Mutex
	posts []func() // guarded by mu
	freed bool     // guarded by mu: wakefd is closed
}

// New makes a loop.
func New(o Options) (*Loop, error) {
	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make an epoll instance: %w", err)
	}
	wakefd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		_ = unix.Close(epfd)
		return nil, fmt.Errorf("make an event descriptor: %w", err)
	}
	size := o.MaxMessage
	if size == 0 {
		size = 64 << 10
	}
	l := &Loop{
		epfd: int32(epfd), wakefd: int32(wakefd), reserve: -1,
		classes: make([]class, 1, 16), scratch: make([]byte, size+1), maxMessage: size,
		count: o.Counters, memory: o.Memory, limit: o.MaxConnections, budget: o.Budget, crowded: crowded{tell: o.Crowded},
		panicked: o.Panicked, empty: o.Empty,
		start: time.Now(),
	}
	if l.count == nil {
		l.count = new(Counters)
	}
	if l.memory == nil {
		l.memory = new(Memory)
	}
	l.buffers.holding = &l.mem
	l.mem.ceiling = math.MaxInt
	if err := l.keepReserve(); err != nil {
		l.free()
		return nil, err
	}
	if l.epoch, err = monotonic(l.start); err != nil {
		l.free()
		return nil, fmt.Errorf("read the clock: %w", err)
	}
	l.load = publisher{o.Load, l.epoch}
	l.count.Open, l.count.UpstreamOpen = 0, 0 // what an earlier user of the memory left
	l.msg.Iov, l.msg.Iovlen = &l.iov[0], 2
	l.wall = l.start
	l.memory.loops = append(l.memory.loops, l)
	l.lingerClass = l.Class(lingerTimeout)
	l.spentClass = l.newClass(class{wait: int64(lingerTimeout), alone: true})
	if err := l.control(unix.EPOLL_CTL_ADD, l.wakefd, unix.EPOLLIN, special); err != nil {
		l.free()
		return nil, fmt.Errorf("watch the event descriptor: %w", err)
	}
	l.budget.join(l)
	return l, nil
}

// Run serves until Stop. It returns an error only when the loop itself is broken.
func (l *Loop) Run() error {
	defer l.free()
	productive := false
	for !l.stopped {
		if l.mutexes > 0 {
			l.contend()
		}
		wakeups := l.count.Wakeups
		n, err := l.wait(productive)
		if err != nil {
			return fmt.Errorf("wait for events: %w", err)
		}
		l.tick()
		if l.load.Load != nil {
			l.load.turn(l.now, n+l.polite.len()+l.greedy.len())
		}
		l.vain = 0
		if l.mutexes > 0 && n > 0 {
			l.acceptHeld(n)
		}
		for i := range l.events[:n] {
			l.dispatch(&l.events[i])
		}
		if l.vain == n && n > 0 {
			l.count.WakeupsVain += l.count.Wakeups - wakeups
		}
		l.serveQueues(l.now)
		productive = n > 0
		l.expire()
		l.account()
		l.reap()
		if l.rest != 0 {
			l.resume()
		}
		l.count.Turns++
		if l.load.Load != nil {
			l.turned()
		}
		if l.draining && l.Open() == 0 && !l.emptied {
			l.emptied = true
			if l.empty != nil {
				l.empty()
			}
		}
	}
	return nil
}

// wait returns the next events. After a productive turn it may ask first without
// blocking, if that has lately found something: then the scheduler need not hear of
// it. Where it finds nothing it is one system call more for each turn.
func (l *Loop) wait(productive bool) (int, error) {
	waiting := l.polite.len()+l.greedy.len() > 0
	if waiting || productive && l.polling.pays(l.count.Turns) {
		n, errno := l.poll()
		switch {
		case errno == unix.EINTR:
			return 0, nil
		case errno != 0:
			return 0, errno
		case n > 0:
			l.polling.was(true)
			return n, nil
		case waiting:
			return 0, nil
		}
		l.polling.was(false)
	}
	n, err := unix.EpollWait(int(l.epfd), l.events[:], l.patience())
	if err == unix.EINTR {
		return 0, nil
	}
	if n > 0 {
		l.count.Wakeups++
	}
	return n, err
}

// tick reads the clock, once a turn.
func (l *Loop) tick() {
	before := l.now
	l.wall = time.Now()
	l.now = int64(l.wall.Sub(l.start))
	if l.now-before >= yieldAfter {
		l.yielded = l.now // in a wait that was so long the scheduler took over
	}
	l.yield(l.now)
}

// yield lets the scheduler run if it has not for long.
func (l *Loop) yield(now int64) {
	if now-l.yielded >= yieldAfter {
		l.yielded = now
		runtime.Gosched()
	}
}

// yieldAfter is how long a busy loop keeps the scheduler waiting. It is below the 10 ms
// at which the runtime's monitor (sysmon in runtime/proc.go) loses patience, takes the
// processor away in the middle of a system call, and then looks again every 20 µs
// for more: an eighth of a busy worker's CPU time.
const yieldAfter = int64(7 * time.Millisecond)

// dispatch records one event, and serves it if it is not a connection's.
func (l *Loop) dispatch(ev *unix.EpollEvent) {
	if uint32(ev.Pad)&special != 0 {
		l.dispatchSpecial(ev.Fd)
		return
	}
	c := l.table.find(ev.Fd, uint32(ev.Pad))
	if c == nil {
		return
	}
	if c.has(dialing) {
		c.flags |= answered
	} else if c.has(waiting|held) && !c.has(unheard) && ev.Events&^unix.EPOLLOUT == unix.EPOLLIN {
		l.unhear(c)
	}
	if ev.Events&^unix.EPOLLOUT != 0 {
		c.flags |= readable
		if ev.Events&^(unix.EPOLLIN|unix.EPOLLOUT) != 0 {
			c.flags |= hangup
		}
		if ev.Events&(unix.EPOLLHUP|unix.EPOLLERR) != 0 {
			c.flags |= gone
		}
	}
	l.again(c)
}

// dispatchSpecial serves an event of a listener or of Post.
func (l *Loop) dispatchSpecial(fd int32) {
	if fd == l.wakefd {
		l.drainPosts()
		return
	}
	for _, ln := range l.listeners {
		if ln.fd == fd && ln.watched {
			if ln.mutex == nil { // else it has been seen to
				l.accept(ln)
			}
			return
		}
	}
	for _, w := range l.watchers {
		if w.fd == fd {
			w.f()
			l.report()
			return
		}
	}
}

// run drives a connection and survives its handler's panic.
func (l *Loop) run(c *Conn) {
	defer l.guard(c)
	l.drive(c)
}

// timedOut serves a timeout that is due.
func (l *Loop) timedOut(c *Conn) {
	defer l.guard(c)
	switch {
	case c.has(lingering):
		c.Close()
		return
	case c.has(dialing) && !c.has(outgoing):
		l.end(c, wayCut, unix.ETIMEDOUT)
		return
	case c.has(blocked) && !c.has(steady):
		l.end(c, wayCut, unix.ETIMEDOUT)
		return
	}
	l.expired, c.want = c.want, 0
	c.svc.handler.TimedOut(c)
	l.drive(c)
}

// guard is deferred around every call of a handler: a panic costs the connection
// and is told, the loop goes on.
func (l *Loop) guard(c *Conn) {
	if l.survive(recover()) {
		l.driven = nil
		c.Close()
	}
}

// survive counts a handler's panic and tells of it, if there was one.
func (l *Loop) survive(v any) bool {
	if v == nil {
		return false
	}
	l.count.Panics++
	if l.panicked != nil {
		l.panicked(v, debug.Stack())
	}
	return true
}

// Post has f called on the loop's goroutine, from any goroutine. Calls keep
// their order. A loop that has stopped calls nothing any more.
func (l *Loop) Post(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.freed {
		return
	}
	l.posts = append(l.posts, f)
	if len(l.posts) == 1 {
		_, _ = unix.Write(int(l.wakefd), []byte{1, 0, 0, 0, 0, 0, 0, 0})
	}
}

func (l *Loop) drainPosts() {
	var b [8]byte
	_, _ = unix.Read(int(l.wakefd), b[:])
	l.mu.Lock()
	l.posts, l.spare = l.spare[:0], l.posts
	l.mu.Unlock()
	for i, f := range l.spare {
		l.spare[i] = nil
		f()
		l.report()
	}
}

// Drain tells the loop that its generation ends: Conn.Leaving becomes true, and
// Empty is called when no connection is left.
func (l *Loop) Drain() {
	l.draining = true
	l.closeIdle()
}

// closeIdle ends the connections to servers that nobody uses and nobody will.
func (l *Loop) closeIdle() {
	l.table.each(func(c *Conn) {
		if c.idles() && !c.has(away) {
			l.closeInOrder(c)
		}
	})
}

// idles reports whether a connection to a server waits for somebody to use it.
func (c *Conn) idles() bool {
	return c.has(outgoing) && c.tie == nil && !c.has(dialing|busy)
}

// Cut closes every connection and counts each as cut, with the Cause ECANCELED, unless all
// that it still waited for was the peer's close.
func (l *Loop) Cut() {
	l.refuseAll()
	l.table.each(func(c *Conn) {
		if c.has(lingering) {
			c.Close()
		} else {
			l.end(c, wayCut, unix.ECANCELED)
		}
		l.report() // so that a handler finds the others as they were
	})
}

// Stop ends Run after this turn. Connections that are open are closed with the
// process.
func (l *Loop) Stop() { l.stopped = true }

// Now returns this turn's wall clock time.
func (l *Loop) Now() time.Time { return l.wall }

// Count returns the loop's counters, for services that count requests.
func (l *Loop) Count() *Counters { return l.count }

// Open returns the number of open connections, those to servers and those in doubt among them.
func (l *Loop) Open() int { return l.live + len(l.doubts) }

func (l *Loop) free() {
	for _, ln := range l.listeners {
		l.leaveMutex(ln)
		closeFile(ln.fd)
	}
	l.table.each(func(c *Conn) {
		if o := c.out; o != nil && o.fd >= 0 {
			closeFile(o.fd)
		} else if o != nil && o.pipe != nil {
			o.pipe.close()
		}
		l.freeSeal(c)
		closeFile(c.fd)
	})
	for _, d := range l.doubts {
		closeFile(d.fd)
	}
	for _, p := range l.pipes.idle {
		p.close()
	}
	if l.reserve >= 0 {
		closeFile(l.reserve)
	}
	closeFile(l.epfd)
	l.mu.Lock()
	l.freed = true // Post must not write to whoever gets the number next
	closeFile(l.wakefd)
	l.mu.Unlock()
}
