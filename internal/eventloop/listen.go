package eventloop

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Service binds a handler to a loop; the connections of one or more listeners
// are its.
type Service struct {
	loop         *Loop
	handler      Handler
	upstreams    *Service // of what its connections are joined to
	noDelay      bool     // of those that Dial makes
	writeTimeout Class
	stays        bool  // its connections end here
	bound        Bound // nil: of none
	minRate      int64 // SetMinRate
	paced        bool  // its handler is a Pacer
	transports   Transports
	either       bool // …of those that come from another process: others are plain
	handshake    Class
}

// SetUpstreams says which service has the other end of pairs that come from another
// process.
func (s *Service) SetUpstreams(u *Service) { s.upstreams = u }

// Upstreams returns that service, nil if there is none.
func (s *Service) Upstreams() *Service { return s.upstreams }

// Adopt makes a connection of another service of the loop this one's, whose handler sees
// to it from here on.
func (s *Service) Adopt(c *Conn) { c.svc = s }

// Stay has the service's connections stay in a loop that drains, whoever may take
// others. It must be called before DrainTo.
func (s *Service) Stay() { s.stays = true }

// NewService makes a service of h. A connection whose peer takes no output for
// writeTimeout is cut; 0 is never.
func (l *Loop) NewService(h Handler, writeTimeout time.Duration) *Service {
	_, paced := h.(Pacer)
	return &Service{loop: l, handler: h, writeTimeout: l.Class(writeTimeout), paced: paced}
}

// Loop returns the loop that the service runs on.
func (s *Service) Loop() *Loop { return s.loop }

// Listener is a listening socket that the loop accepts from.
type Listener struct {
	fd      int32
	svc     *Service
	events  uint32
	batch   batch
	since   int // accepted since it was queued for exclusive wake-ups
	watched bool
	broken  bool   // the socket has an error of its own, for ever
	mutex   *mutex // nil if nobody has to be kept out
	held    bool   // the loop has the mutex. Invariant: then the socket is watched
}

// Sharing is how a loop shares a listening socket with other loops; the zero value
// is that a connection wakes all who watch the socket.
type Sharing struct {
	// Exclusive has a connection wake one of those who wait, where the others are
	// exclusive too: EPOLLEXCLUSIVE, epoll_ctl(2).
	Exclusive bool
	// Mutex is a word in memory that all of them share, zero at the beginning. Only
	// the loop that holds it watches the socket.
	Mutex *uint32
}

// FD returns the listening socket, to be duplicated. It stays the loop's.
func (ln *Listener) FD() int { return int(ln.fd) }

// noFDPause is how long accepting rests when there are no descriptors, unless a
// connection is closed before.
const noFDPause = int64(100 * time.Millisecond)

// Listen begins to accept from a non-blocking listening socket, whose descriptor
// the loop owns unless there is an error.
func (l *Loop) Listen(fd int, s *Service, sh Sharing) (*Listener, error) {
	// The flag belongs to all who hold the socket. Without it accept4 would block
	// the loop, and by RawSyscall the scheduler with it.
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, err
	}
	ln := &Listener{fd: int32(fd), svc: s, events: unix.EPOLLIN, batch: batch{size: 1, trial: minTrial}}
	if sh.Exclusive && sh.Mutex == nil {
		ln.events |= unix.EPOLLEXCLUSIVE
	}
	// With a mutex too: what can't be watched is to be told now.
	if err := l.watch(ln); err != nil {
		return nil, err
	}
	if sh.Mutex != nil {
		l.unwatch(ln)
		l.mutexes++
		woke := func() { l.mutexWoke(ln) }
		ln.mutex = newMutex(sh.Mutex, ln.fd, func() { l.Post(woke) })
	}
	l.listeners = append(l.listeners, ln)
	l.budget.take(1)
	return ln, nil
}

// Unlisten stops accepting and closes the loop's descriptor. The registration
// belongs to the open file description, which lives on in other processes, so
// it is removed by name and not left to close(2).
func (l *Loop) Unlisten(ln *Listener) {
	for i, other := range l.listeners {
		if other == ln {
			l.listeners = append(l.listeners[:i], l.listeners[i+1:]...)
			l.unwatch(ln)
			l.leaveMutex(ln)
			closeFile(ln.fd)
			l.budget.give(1)
			ln.fd = -1
			return
		}
	}
}

func (l *Loop) watch(ln *Listener) error {
	if ln.watched || ln.broken || l.rest != 0 || ln.mutex != nil && !ln.held {
		return nil // resume will, or contend
	}
	if err := l.control(unix.EPOLL_CTL_ADD, ln.fd, ln.events, special); err != nil {
		return err
	}
	ln.watched = true
	return nil
}

func (l *Loop) unwatch(ln *Listener) {
	if ln.watched {
		ln.watched = false
		_ = l.control(unix.EPOLL_CTL_DEL, ln.fd, 0, 0)
	}
}

// accept takes connections from one listener and serves them. Watching is
// level-triggered: what a batch leaves comes back in the next turn, so the accept
// that would only find the queue empty is rarely made.
//
// Beside much else that waits, an accept too many is cheap, and a turn may be long: then the
// queue is emptied as far as the turn's time for it allows.
func (l *Loop) accept(ln *Listener) {
	n, busy := ln.batch.size, l.polite.len()+l.greedy.len() >= manyWait
	if busy {
		n = maxBatch
	}
	step := n
	if ln.mutex == nil { // else others wait for it, and not for what is served here
		step = min(n, acceptStep)
	}
	accepted, empty := 0, false
	for accepted < n && !empty && l.rest == 0 && (accepted == 0 || !l.late(l.now+acceptTime)) {
		var fresh []int32
		room := l.admit(min(step, n-accepted))
		if room == 0 {
			l.noRoom(true)
			break
		}
		fresh, empty = l.take(ln, room)
		l.budget.give(room - len(fresh))
		l.unlock(ln)
		for _, fd := range fresh {
			l.welcome(fd, ln.svc)
		}
		l.reap()
		accepted += len(fresh)
		if ln.broken {
			break
		}
	}
	switch {
	case busy:
	case empty:
		ln.batch.missed()
	case accepted >= n:
		ln.batch.filled()
	}
	if accepted == 0 {
		l.vain++
		return
	}
	l.queueAgain(ln, accepted)
	l.yieldPlaces(accepted)
	if l.rest == 0 && l.foreseen(ln) {
		// At once and not at the next connection, whose one exclusive wake-up this
		// loop would take and the others never get.
		l.noRoom(false)
	}
}

// queueAgain puts the loop at the end of those that the kernel wakes for an exclusive
// listener, once in a while: it wakes the first that waits, which else would get all
// connections as long as it has time for them.
func (l *Loop) queueAgain(ln *Listener, accepted int) {
	if ln.events&unix.EPOLLEXCLUSIVE == 0 || !ln.watched {
		return
	}
	if ln.since += accepted; ln.since < 16 {
		return
	}
	ln.since = 0
	l.unwatch(ln)
	l.rewatch(ln)
}

// rewatch watches a listener that was watched before. What can be against it is want
// of kernel memory or of epoll watches (ENOMEM, ENOSPC), which passes as want of
// descriptors does.
func (l *Loop) rewatch(ln *Listener) {
	if l.watch(ln) != nil {
		l.count.AcceptErrors++
		l.pause(restNoFD)
	}
}

// acceptStep is how many connections are accepted before they are served.
const acceptStep = 8

// take accepts up to n connections. empty says that there are no more.
func (l *Loop) take(ln *Listener, n int) (fresh []int32, empty bool) {
	l.fresh = l.fresh[:0]
	for range n {
		fd, errno := accept(ln.fd)
		switch errno {
		case 0:
			l.count.Accepted++
			l.fresh = append(l.fresh, fd)
		case unix.EAGAIN:
			l.count.AcceptEmpty++
			return l.fresh, true
		case unix.EINTR, unix.ECONNABORTED:
		case unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM:
			// The kernel has less than the budget knows of: somebody has lowered the limit, or the
			// whole machine has none.
			l.budget.Refresh()
			l.count.AcceptNoFD++
			l.acceptLast(ln)
			l.pause(restNoFD)
			return l.fresh, false
		case unix.EINVAL, unix.EBADF, unix.ENOTSOCK:
			// The socket's own error, as after a shutdown(2) by somebody who shares
			// it: it would be reported for ever.
			l.count.AcceptErrors++
			ln.broken = true
			l.unwatch(ln)
			return l.fresh, false
		default:
			// The connection's own network error, which accept(2) passes on.
			l.count.AcceptErrors++
		}
	}
	return l.fresh, false
}

// acceptLast takes one connection with the descriptor that is kept for it: the one
// exclusive wake-up that came with the connection has been this loop's, and the others
// would hear of it only with the next one.
func (l *Loop) acceptLast(ln *Listener) {
	if l.reserve < 0 {
		return
	}
	closeFile(l.reserve)
	l.reserve = -1
	if fd, errno := accept(ln.fd); errno == 0 {
		l.count.Accepted++
		l.fresh = append(l.fresh, fd)
	}
}

// keepReserve makes the descriptor for acceptLast if there is none.
func (l *Loop) keepReserve() error {
	if l.reserve >= 0 {
		return nil
	}
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("make a descriptor in reserve: %w", err)
	}
	l.reserve = int32(fd)
	return nil
}

// welcome opens a fresh connection if its client may have another one.
func (l *Loop) welcome(fd int32, s *Service) {
	var seat uint16
	if s.bound != nil {
		var ok bool
		if seat, ok = l.enter(fd, s); !ok {
			return
		}
	}
	l.greet(fd, s, seat)
}

// greet opens a fresh connection. As long as that pays, it is served with what it has
// already sent before it is watched: a short exchange is over without epoll having
// heard of it.
func (l *Loop) greet(fd int32, s *Service, seat uint16) {
	if s.transports != nil {
		l.greetSealed(fd, s, seat)
		return
	}
	c := l.open(fd, s, serving|readable)
	c.seat = seat
	defer l.guard(c)
	if l.moving {
		l.leave(c)
	}
	s.handler.Opened(c)
	if c.out != nil || c.has(ending) || !c.has(held) && l.early.pays(l.count.Accepted) {
		before := l.count.BytesIn
		l.drive(c)
		l.early.was(l.count.BytesIn > before)
	} else {
		c.flags &^= readable // epoll will tell
	}
	l.register(c)
}

// greetSealed queues the handshake of a fresh connection: if all that come were served at once, as plain ones are, those that
// are open would wait for them.
func (l *Loop) greetSealed(fd int32, s *Service, seat uint16) {
	c := l.open(fd, s, dialing|answered|readable)
	c.seat = seat
	defer l.guard(c)
	l.seal(c, s.transports.New(c))
	c.SetDeadline(s.handshake)
	l.register(c)
	l.again(c)
}

// watches returns the events that a connection is watched for.
func (c *Conn) watches() uint32 {
	events := uint32(watchIn)
	if c.has(watchOut) {
		events |= unix.EPOLLOUT
	}
	if c.has(unheard) {
		events &^= unix.EPOLLIN
	}
	return events
}

func (l *Loop) register(c *Conn) {
	if !c.has(open) || c.has(registered) {
		return
	}
	if l.control(unix.EPOLL_CTL_ADD, c.fd, c.watches(), c.gen) != nil {
		l.end(c, wayClosed, unix.ENOSPC)
		return
	}
	c.flags |= registered
}

// rest is why accepting is paused; 0 is not at all.
type rest uint8

const (
	restFull rest = 1 + iota // the connection limit
	restNoFD                 // the kernel has no descriptors
	restRoom                 // the budget has none
)

// pause takes all listeners out of the epoll instance, so that their waiting
// connections do not make the loop spin.
func (l *Loop) pause(why rest) {
	l.rest, l.restClosed = why, l.count.Closed
	l.resumeAt = l.lookAgain()
	for _, ln := range l.listeners {
		l.unwatch(ln)
		l.unlock(ln)
	}
}

// full reports whether the loop has as many connections as it may.
func (l *Loop) full() bool { return l.limit > 0 && l.clients() >= l.limit }

// clients returns how many connections are open but for those to servers.
func (l *Loop) clients() int { return int(l.count.Open) }

// resume ends a pause whose reason has gone.
func (l *Loop) resume() {
	switch {
	case l.full() && l.idlest(true) == nil:
		if l.rest = restFull; l.now >= l.resumeAt {
			l.resumeAt = l.lookAgain()
		}
		return
	case l.rest != restNoFD && !l.admits():
		l.rest = restRoom
		if l.now >= l.resumeAt {
			l.resumeAt = l.lookAgain()
			l.budget.Refresh() // the limit may be higher by now: looked at in the next turn
			l.budget.ask(l)
		}
		return
	case l.rest == restNoFD && l.now < l.resumeAt && l.count.Closed == l.restClosed:
		return
	case l.keepReserve() != nil:
		l.count.AcceptNoFD++
		l.rest, l.resumeAt, l.restClosed = restNoFD, l.now+noFDPause, l.count.Closed
		return
	}
	l.rest, l.resumeAt = 0, 0
	for _, ln := range l.listeners {
		l.rewatch(ln)
	}
}
