package eventloop

import "time"

// Work is what a turn is divided by. Its unit is what it costs to move a byte, about 0.2 ns; a
// system call and a request count as so many bytes. The figures need only be right to a
// factor: they keep one connection from taking the time of thousands.
const (
	callWork  = 8 << 10  // a system call on a socket
	closeWork = 32 << 10 // closing one
	// connectWork is what making a connection to a server takes: four calls, of which one may go as far as
	// that server's queue.
	connectWork = 128 << 10
	// RequestWork is what a handler counts for a request that it answers from memory.
	RequestWork = 4 << 10
	// FileWork is what it counts for looking a file up on a disk's cache.
	FileWork = 32 << 10
)

const (
	// wholeShare is the share of a connection that has the loop to itself, and what all
	// that wait divide among them, in work: a quarter of a millisecond.
	wholeShare = 1 << 20
	// leastShare is a share however many wait: what is less costs more in system calls
	// than it does for anybody.
	leastShare = 128 << 10
	// clockWork is how much is done between two looks at the clock: some 15 µs.
	clockWork = 64 << 10
	// manyWait is how many wait when a system call more is nothing beside them.
	manyWait = 16
)

// A turn takes no longer than this, but for what the last connection does: then the loop asks
// for events, accepts and serves posts before it goes on with its queues.
const (
	acceptTime = int64(500 * time.Microsecond) // since the turn began, after which it accepts no more
	politeTime = int64(time.Millisecond)       // likewise serves no more of those that come first
	expireTime = int64(500 * time.Microsecond) // what timeouts have in each turn
	greedyTime = int64(500 * time.Microsecond) // what those have that come behind, in each turn
)

// share returns the work that the next connection may do at once.
func (l *Loop) share() int {
	n := l.polite.len() + l.greedy.len() + 1
	return max(wholeShare/n, leastShare)
}

// Spend counts work that a handler does for a connection, and reports whether there
// is some of its share left. When there is not, the handler should return soon: what it leaves
// of the input is presented again after others have had their turns.
func (c *Conn) Spend(work int) bool {
	l := c.svc.loop
	l.left -= work
	return l.left > 0
}

// again queues a connection that can go on, among those that come first. A client's handshake takes as long as hundreds of
// requests: it comes behind all others.
func (l *Loop) again(c *Conn) {
	if c.has(dialing) && !c.has(outgoing) {
		l.later(c)
		return
	}
	if !c.has(queued) {
		c.flags |= queued
		l.polite.push(mark{c, c.gen})
	}
}

// later queues a connection that has used up its share, behind all others.
func (l *Loop) later(c *Conn) {
	if !c.has(queued) {
		c.flags |= queued
		l.greedy.push(mark{c, c.gen})
	}
}

// serveQueues serves the connections that can go on: first those whose turn an event, a timeout
// or another connection has made it, in their order, then those that had used up their share. Each
// kind has a part of the turn that the other can't take.
func (l *Loop) serveQueues(began int64) {
	greedy := l.greedy.len() // who joins them now has had its share of this turn
	l.serve(&l.polite, l.polite.len(), began+politeTime)
	if greedy > 0 {
		l.serve(&l.greedy, greedy, l.clock()+greedyTime)
	}
}

// serve serves the first n connections of a queue, as far as a time allows.
func (l *Loop) serve(q *queue, n int, until int64) {
	for ; n > 0; n-- {
		m := q.pop()
		if m.c.gen != m.gen || !m.c.has(open) {
			continue
		}
		m.c.flags &^= queued
		if m.c.has(away) {
			continue
		}
		if m.c.has(dialing) {
			l.connected(m.c)
		} else {
			l.run(m.c)
		}
		l.reap()
		if l.late(until) {
			return
		}
	}
}

// late reports whether a time has passed. It looks at the clock when enough has been done
// since it last did.
func (l *Loop) late(until int64) bool {
	if l.done < clockWork {
		return false
	}
	l.done = 0
	now := l.clock()
	l.yield(now)
	return now >= until
}

// clock reads the time on the clock of now.
func (l *Loop) clock() int64 { return int64(time.Since(l.start)) }

// queue is a list of connections, each at most once.
type queue struct {
	marks []mark
	head  int // of those that wait
}

func (q *queue) len() int { return len(q.marks) - q.head }

func (q *queue) push(m mark) {
	if q.head > len(q.marks)/2 && len(q.marks) == cap(q.marks) { // else it grows: so each is moved once or so
		q.marks = q.marks[:copy(q.marks, q.marks[q.head:])]
		q.head = 0
	}
	q.marks = append(q.marks, m)
}

func (q *queue) pop() mark {
	m := q.marks[q.head]
	q.marks[q.head] = mark{}
	if q.head++; q.head == len(q.marks) {
		q.marks, q.head = q.marks[:0], 0
	}
	return m
}
