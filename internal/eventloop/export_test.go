package eventloop

import (
	"sync/atomic"
	"time"
	"unsafe"
)

const (
	ConnSize   = unsafe.Sizeof(Conn{})
	TieSize    = unsafe.Sizeof(tie{})
	TurnBudget = wholeShare
	SendMax    = sendMax
	MaxDepart  = maxDepart
)

// DropPipes closes the pipes that are kept for later.
func (l *Loop) DropPipes() {
	for _, p := range l.pipes.idle {
		p.close()
	}
	l.pipes = Spare[*pipe]{}
}

func (l *Loop) Check() error    { return l.check() }
func (l *Loop) Epoll() int      { return int(l.epfd) }
func (l *Loop) WakeFD() int     { return int(l.wakefd) }
func (c *Conn) FD() int         { return int(c.fd) }
func (c *Conn) Gen() uint32     { return c.gen }
func (c *Conn) Blocked() bool   { return c.has(blocked) }
func (c *Conn) Lingering() bool { return c.has(lingering) }
func (c *Conn) Timeout() Class  { return c.class }
func (c *Conn) Queued() bool    { return c.has(queued) }
func (c *Conn) Paused() bool    { return c.has(paused) }
func (c *Conn) MakeForeign()    { c.flags |= foreign }
func (c *Conn) Readable() bool  { return c.has(readable) }

// Due is how long until the connection's timeout.
func (c *Conn) Due() time.Duration { return time.Duration(c.deadline - c.svc.loop.now) }

// Kept is the input that was presented and not consumed.
func (c *Conn) Kept() int { return len(c.in) }

// Find returns the open connection of a descriptor.
func (l *Loop) Find(fd int) *Conn {
	if c := l.table.at(int32(fd)); c.has(open) {
		return c
	}
	return nil
}

// Only returns the open connection if there is one and no other.
func (l *Loop) Only() (only *Conn) {
	n := 0
	l.table.each(func(c *Conn) { n, only = n+1, c })
	if n != 1 {
		return nil
	}
	return only
}

// ClientWaits reports whether the input of a connection that Dial didn't make waits for
// another's output.
func (l *Loop) ClientWaits() (is bool) {
	l.table.each(func(c *Conn) { is = is || c.has(waiting) && !c.has(outgoing) })
	return is
}

// ServerDeaf reports whether a connection that Dial made takes no more output, as is known.
func (l *Loop) ServerDeaf() (is bool) {
	l.table.each(func(c *Conn) { is = is || c.has(deaf) && c.has(outgoing) })
	return is
}

// Passed reports whether the timeout of a connection that is away is over.
func (l *Loop) Passed(d *Departure) bool { return d.at.c.deadline <= l.now }

// TravelTogether has as many connections travel together, beyond what other processes understand.
func (l *Loop) TravelTogether(n int) { l.maxTogether = n }

// Mutex is a mutex without a loop.
type Mutex = mutex

var NewMutex = newMutex

func (m *Mutex) TryLock() bool { return m.tryLock() }
func (m *Mutex) Unlock()       { m.unlock() }
func (m *Mutex) Await()        { m.await() }
func (m *Mutex) Close()        { m.close() }

// Awaited reports whether somebody may sleep until a mutex word is free.
func Awaited(word *uint32) bool { return atomic.LoadUint32(word)&waiters != 0 }

// Held reports whether the loop holds the listener's mutex.
func (ln *Listener) Held() bool { return ln.held }

// Waits reports whether the loop waits for the listener's mutex.
func (ln *Listener) Waits() bool { return ln.mutex.waiting }

// Patience is how many milliseconds the loop may wait.
func (l *Loop) Patience() int { return l.patience() }

// Queued returns how many connections can go on.
func (l *Loop) Queued() int { return l.polite.len() + l.greedy.len() }

// Lent and Spared are the bytes that connections hold, and those that are kept for later.
func (l *Loop) Lent() int   { return l.mem.lent }
func (l *Loop) Spared() int { return l.mem.kept }

// Closing returns how many descriptors of closed connections are open still.
func (l *Loop) Closing() int { return len(l.closing) }

// QueueMoves returns how many connections a queue of n has copied for so many pushes, each after a pop.
func QueueMoves(n, pushes int) (moved int) {
	var q queue
	for range n {
		q.push(mark{})
	}
	for range pushes {
		q.pop()
		head, length, room := q.head, q.len(), cap(q.marks)
		q.push(mark{})
		if cap(q.marks) != room || q.head < head {
			moved += length
		}
	}
	return moved
}
