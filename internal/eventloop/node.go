package eventloop

import (
	"time"
	"unsafe"
)

// node is what waits for a time, in the list of its class: it is part of a Conn or of a Timer.
type node struct {
	prev, next *node
	deadline   int64 // nanoseconds on the loop's clock; of a Conn that is away, 0 is none
}

// connOf and timerOf return what a node is part of: its first field.
func connOf(n *node) *Conn   { return (*Conn)(unsafe.Pointer(n)) }
func timerOf(n *node) *Timer { return (*Timer)(unsafe.Pointer(n)) }

// list is some nodes.
//
// Invariant: deadlines do not decrease from head to tail.
type list struct{ head, tail *node }

// push adds the node that is due last.
func (t *list) push(n *node) {
	n.prev, n.next = t.tail, nil
	if t.tail != nil {
		t.tail.next = n
	} else {
		t.head = n
	}
	t.tail = n
}

// insert adds a node behind those that are due before it, looked for from the tail on.
func (t *list) insert(n *node) {
	before := t.tail
	for before != nil && before.deadline > n.deadline {
		before = before.prev
	}
	n.prev = before
	if before != nil {
		n.next, before.next = before.next, n
	} else {
		n.next, t.head = t.head, n
	}
	if n.next != nil {
		n.next.prev = n
	} else {
		t.tail = n
	}
}

func (t *list) remove(n *node) {
	if n.prev != nil {
		n.prev.next = n.next
	} else {
		t.head = n.next
	}
	if n.next != nil {
		n.next.prev = n.prev
	} else {
		t.tail = n.prev
	}
	n.prev, n.next = nil, nil
}

// Timer is a timeout of its own of something that lives on a connection, such as a stream; the zero Timer
// is not armed. It can be a field of anything that stays where it is while it is armed.
type Timer struct {
	node
	class Class // 0: not armed
	of    mark
	loop  *Loop
	owner Timed
}

// Timed has Timers.
type Timed interface {
	// TimedOut is called when a timer's time has passed, as a handler's methods are: what is queued then is written when it
	// returns. The timer is not armed any more.
	TimedOut(t *Timer)
}

// Arm arms a timer, in place of what it was armed with; 0 disarms it. It ends with the connection. One that is due
// while that is on its way to another process, and comes back, has its time once more.
func (c *Conn) Arm(t *Timer, id Class, owner Timed) { c.ArmLeft(t, id, 0, owner) }

// ArmLeft is Arm with the time that was left of the class in another process; 0 is all of it.
func (c *Conn) ArmLeft(t *Timer, id Class, left time.Duration, owner Timed) {
	t.Disarm()
	if id == 0 || !c.has(open) {
		return
	}
	l := c.svc.loop
	t.of, t.loop, t.owner = mark{c, c.gen}, l, owner
	deadline := int64(0)
	if left > 0 {
		deadline = l.now + int64(left)
	}
	if moved := l.classUntil(id, deadline); moved != 0 {
		t.class, t.deadline = moved, deadline
		l.classes[moved].timers.insert(&t.node)
		return
	}
	t.class, t.deadline = id, l.now+l.classes[id].wait
	l.classes[id].timers.push(&t.node)
}

// Disarm disarms a timer.
func (t *Timer) Disarm() {
	if t.class != 0 {
		t.loop.classes[t.class].timers.remove(&t.node)
		t.class = 0
	}
}

// Armed reports whether a timer is armed.
func (t *Timer) Armed() bool { return t.class != 0 }

// Left is how long until the timer is due, at least a nanosecond; 0 if it isn't armed.
func (t *Timer) Left() time.Duration {
	if t.class == 0 {
		return 0
	}
	return time.Duration(max(t.deadline-t.loop.now, 1))
}

// fire serves a timer that is due.
func (l *Loop) fire(t *Timer) {
	c, id := t.of.c, t.class
	t.Disarm()
	switch {
	case c.gen != t.of.gen || !c.has(open):
		return
	case c.has(away):
		c.Arm(t, id, t.owner)
		return
	}
	defer l.guard(c)
	t.owner.TimedOut(t)
	if !c.has(dialing) {
		l.drive(c)
	}
}
