package eventloop

import (
	"time"

	"golang.org/x/sys/unix"
)

// SpareClass is Class for connections from which nothing is awaited: one that has waited for grace may be
// closed when its descriptor, or its place, is wanted for another; the one that has waited longest
// first. Its list is in that order, so the head is the one.
func (l *Loop) SpareClass(d, grace time.Duration) Class {
	if d <= 0 {
		d = forever
	}
	d = min(d, forever)
	for i := 1; i < len(l.classes); i++ {
		t := &l.classes[i]
		if t.spare && !t.extra && t.wait == int64(d) && t.grace == int64(grace) {
			return Class(i)
		}
	}
	return l.newClass(class{wait: int64(d), spare: true, grace: int64(grace), alone: true})
}

// spareLooks bounds how many at the head of a list are looked at that turn out to be in use.
const spareLooks = 16

// inUse is what no idle connection has.
const inUse = readable | hangup | gone | paused | eof | ending | queued | blocked | away | dialing |
	held | waiting | busy | shutting | shut

// idlest returns the connection that has been idle longest of those that may be closed for
// another, nil if there is none; of clients only, if it is their number that counts. One whose next
// request has come is none.
func (l *Loop) idlest(clients bool) *Conn {
	var best *Conn
	var since int64
	for i := range l.classes {
		t := &l.classes[i]
		if !t.spare {
			continue
		}
		looks := 0
		for n := t.conns.head; n != nil && looks < spareLooks; n = n.next {
			looks++
			c := connOf(n)
			at := c.deadline - t.wait
			if l.now-at < t.grace || best != nil && at >= since {
				break
			}
			if !(clients && c.has(outgoing)) && c.unused() {
				best, since = c, at
				break
			}
		}
	}
	return best
}

// unused reports whether nothing is under way at a connection, and nothing has come that was not read
// yet: so nobody misses it, whether it is its descriptor that is wanted or its memory.
func (c *Conn) unused() bool {
	return !c.has(inUse) && c.has(registered) && c.in == nil && c.out == nil && c.tie == nil && c.Silent()
}

// yieldPlaces begins to close idle connections in order, as many as n, where descriptors get few: their
// clients are told of the end (FIN), and a request that crosses it is not answered with RST as
// long as the descriptor isn't needed. Those that are being closed so already are as good as free: connections that
// come and go must not end one more each. It must not be called while a connection is driven: see owed.
func (l *Loop) yieldPlaces(n int) {
	if want := l.budget.wanted(); want > 0 {
		n = min(n, want-l.yielding(want))
	}
	for ; n > 0 && l.budget.wanted() > 0; n-- {
		c := l.idlest(false)
		if c == nil {
			return
		}
		l.spareOne(c, true)
	}
}

// yielding returns how many connections are being closed in order for others, counting to n.
func (l *Loop) yielding(n int) int {
	found := 0
	for at := l.classes[l.spentClass].conns.head; at != nil && found < n; at = at.next {
		found++
	}
	return found
}

// spareOne closes an idle connection for the sake of others.
func (l *Loop) spareOne(c *Conn, inOrder bool) {
	defer l.guard(c)
	l.count.IdleClosed++
	l.crowded.say(l.now, !inOrder && l.full())
	if !inOrder || c.has(outgoing) {
		l.closeInOrder(c)
		return
	}
	c.Finish(true)
	l.drive(c)
	if c.has(lingering) {
		l.arm(c, l.spentClass)
	}
}

// CloseIdle closes in order those clients' connections that have been idle for so long. It is for the end of a service,
// where nobody takes them over. It must not be called while a connection is driven.
func (l *Loop) CloseIdle(since time.Duration) {
	for i := range l.classes {
		t := &l.classes[i]
		if !t.spare {
			continue
		}
		for n := t.conns.head; n != nil && l.now-(n.deadline-t.wait) >= int64(since); {
			c := connOf(n)
			if n = n.next; !c.has(outgoing) && c.unused() {
				l.finishIdle(c)
			}
		}
	}
}

func (l *Loop) finishIdle(c *Conn) {
	defer l.guard(c)
	c.Finish(true)
	l.drive(c)
}

// makeRoom closes a connection for one more client, if need be: one that is being closed in order, or
// else the longest idle. It must not be called while a connection is driven, for it closes
// descriptors at once: an event of this turn that still means one has another generation.
func (l *Loop) makeRoom() bool {
	if l.budget.free(forClients) > 0 && !l.full() {
		return true
	}
	if n := l.classes[l.spentClass].conns.head; n != nil {
		connOf(n).Close()
	} else if c := l.idlest(l.full()); c != nil {
		l.spareOne(c, false)
	} else {
		return false
	}
	l.reap()
	return true
}

// admit takes the budget of up to n clients, making room for one if there is none.
func (l *Loop) admit(n int) int {
	if l.limit > 0 {
		n = min(n, max(1, l.limit-l.clients()))
	}
	if l.full() {
		if !l.makeRoom() {
			return 0
		}
		n = 1
	}
	if got := l.budget.claim(n, forClients); got > 0 || !l.makeRoom() {
		return got
	}
	return l.budget.claim(1, forFiles) // in another's place, wherever the mark is
}

// admits reports whether one more client may come, if need be in another's place.
func (l *Loop) admits() bool {
	if !l.full() && l.budget.free(forClients) > 0 {
		return true
	}
	return l.classes[l.spentClass].conns.head != nil || l.idlest(l.full()) != nil
}

// noRoom stops accepting because no client may come. Another loop of the process may have an
// idle connection for one that waits.
func (l *Loop) noRoom(waits bool) {
	if l.full() {
		l.count.AcceptPaused++
		l.pause(restFull)
		return
	}
	l.count.AcceptNoFD++
	l.pause(restRoom)
	if waits {
		l.crowded.say(l.now, false)
		l.budget.ask(l)
	}
}

// foreseen reports whether accepting must stop before a connection comes that may not: one more than
// max_connections allows, or one whose only wake-up is this loop's (EPOLLEXCLUSIVE, or
// the mutex) while others may have descriptors.
func (l *Loop) foreseen(ln *Listener) bool {
	return (l.full() || ln.mutex != nil || ln.events&unix.EPOLLEXCLUSIVE != 0) && !l.admits()
}

// lookAgain returns when a loop that has paused looks again for room: others may have made it, and time
// makes connections idle. 0 is when one of its own connections ends and not before.
func (l *Loop) lookAgain() int64 {
	if l.rest == restFull {
		idle := false
		for i := range l.classes {
			idle = idle || l.classes[i].spare && l.classes[i].conns.head != nil
		}
		if !idle {
			return 0
		}
	}
	return l.now + noFDPause
}

// MayOpen reports whether there is a descriptor for what a client is sent, such as a file.
func (l *Loop) MayOpen() bool {
	if l.budget.free(forFiles) > 0 {
		return true
	}
	l.count.NoRoom++
	l.crowded.say(l.now, false)
	return false
}

// CountFiles says that a handler holds n more files for connections, or fewer.
func (l *Loop) CountFiles(n int) { l.budget.take(n) }

// countStayed counts the clients that another process was to have and that end here.
func (l *Loop) countStayed() {
	l.table.each(func(c *Conn) {
		if !c.has(outgoing | stays | lingering) {
			l.count.Stayed++
		}
	})
}

// crowded tells of want of room, once in a while.
type crowded struct {
	tell func(full bool)
	next int64
}

// crowdedEvery is how often, in nanoseconds.
const crowdedEvery = int64(10 * time.Second)

func (c *crowded) say(now int64, full bool) {
	if c.tell == nil || now < c.next {
		return
	}
	c.next = now + crowdedEvery
	c.tell(full)
}
