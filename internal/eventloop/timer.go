package eventloop

import "time"

// Class names a timeout duration of a loop; 0 is no timeout.
type Class uint8

// class is a timeout's FIFO lists: all in them wait equally long, so the
// first one armed is the first one due, and arming costs two pointers. Connections, most of all that wait, have one to
// themselves: so a node needs no word of what it is part of.
type class struct {
	wait   int64 // nanoseconds
	conns  list  // nodes of Conn
	timers list  // nodes of Timer
	// moved is the class of those connections that came with part of their time
	// gone, sorted in; 0 while there were none. That one is extra.
	moved Class
	extra bool
	// spare: its connections may be closed to make room for others, once they have waited for grace.
	spare bool
	grace int64 // nanoseconds
	alone bool  // not for Class to give out
}

// forever bounds a timeout, so that a deadline doesn't overflow: 146 years.
const forever = time.Duration(1 << 62)

// Class returns the class for timeouts of d, making it if need be; d <= 0 is no
// timeout. It panics beyond 255 different durations.
func (l *Loop) Class(d time.Duration) Class {
	if d <= 0 {
		return 0
	}
	d = min(d, forever)
	for i := 1; i < len(l.classes); i++ {
		if t := &l.classes[i]; t.wait == int64(d) && !t.extra && !t.alone {
			return Class(i)
		}
	}
	return l.newClass(class{wait: int64(d)})
}

func (l *Loop) newClass(t class) Class {
	if len(l.classes) > 255 {
		panic("eventloop: more than 255 timeout classes")
	}
	l.classes = append(l.classes, t)
	return Class(len(l.classes) - 1)
}

// arm puts a connection at the end of a class's list, taking it off its own.
func (l *Loop) arm(c *Conn, id Class) {
	if c.class != 0 {
		l.disarm(c)
	}
	if id == 0 {
		return
	}
	t := &l.classes[id]
	c.class, c.deadline = id, l.now+t.wait
	t.conns.push(&c.node)
}

// armUntil arms a class with the time that was left of it elsewhere, but not more
// than all of it; 0 is all.
func (l *Loop) armUntil(c *Conn, id Class, deadline int64) {
	moved := l.classUntil(id, deadline)
	if moved == 0 {
		l.arm(c, id)
		return
	}
	l.disarm(c)
	c.class, c.deadline = moved, deadline
	l.classes[moved].conns.insert(&c.node)
}

// classUntil returns the class that has a deadline sorted in, 0 if that has all of its time. Those that come from another
// process come in the order of their deadlines, so the
// place of one is found at the end of a list that they have to themselves.
func (l *Loop) classUntil(id Class, deadline int64) Class {
	if id == 0 || deadline == 0 || deadline >= l.now+l.classes[id].wait {
		return 0
	}
	if l.classes[id].moved == 0 && len(l.classes) <= 255 { // else it gets its whole time
		l.classes = append(l.classes, class{
			wait: l.classes[id].wait, extra: true, spare: l.classes[id].spare, grace: l.classes[id].grace,
		})
		l.classes[id].moved = Class(len(l.classes) - 1)
	}
	return l.classes[id].moved
}

// disarm takes a connection off its list.
func (l *Loop) disarm(c *Conn) {
	if c.class != 0 {
		l.classes[c.class].conns.remove(&c.node)
		c.class = 0
	}
}

// Expired returns the class of the timeout that Handler.TimedOut is called for.
func (l *Loop) Expired() Class { return l.expired }

// expire serves the timeouts that are due, as far as a turn's time allows.
func (l *Loop) expire() {
	until := int64(0)
	for i := range l.classes {
		for {
			t := &l.classes[i] // a handler may have made another class
			n, timer := t.conns.head, false
			if n == nil || n.deadline > l.now {
				if n, timer = t.timers.head, true; n == nil || n.deadline > l.now {
					break
				}
			}
			if until == 0 {
				until = l.clock() + expireTime
			}
			if timer {
				l.fire(timerOf(n))
			} else {
				c := connOf(n)
				l.disarm(c)
				l.timedOut(c)
			}
			l.reap()
			l.done += callWork
			if l.late(until) {
				return // nearest says at once
			}
		}
	}
}

// longestWait bounds one wait, in milliseconds: epoll_wait(2) takes 32 bits.
const longestWait = 1 << 30

// nearest returns the milliseconds until the next timeout, rounded up; -1 is
// for ever.
func (l *Loop) nearest() int {
	due := l.resumeAt
	if at := l.trimDue(); at != 0 && (due == 0 || at < due) {
		due = at
	}
	for i := range l.classes {
		for _, n := range [...]*node{l.classes[i].conns.head, l.classes[i].timers.head} {
			if n != nil && (due == 0 || n.deadline < due) {
				due = n.deadline
			}
		}
	}
	if due == 0 {
		return -1
	}
	wait := max(0, due-l.now+int64(time.Millisecond)-1) / int64(time.Millisecond)
	return int(min(wait, longestWait))
}
