package eventloop

import (
	"math/bits"
	"slices"

	"golang.org/x/sys/unix"
)

// Shedder is a Handler that has its say when a connection is ended for want of memory.
type Shedder interface {
	Handler
	// Held returns the bytes that the connection's State holds, of those that Charge was told.
	Held(c *Conn) int
	// Shed ends the connection, with an answer if one can still be given. What it queues is sent
	// as far as the socket takes it at once.
	Shed(c *Conn)
}

// shedKind is what a connection is to who looks for memory: the first kind goes first. Of one kind
// the largest go first, and of the equally large those that would time out first.
type shedKind uint8

const (
	shedHead shedKind = iota // part of a message, the rest of which its peer owes
	shedBody                 // a message under way in either direction
	shedIdle                 // nothing
	shedKinds
)

// victim is a connection that may be shed.
type victim struct {
	mark
	kind  shedKind
	bytes int
}

// shed ends connections until the loop holds a sixteenth less than it may, so that the search is
// made once for many.
func (l *Loop) shed() {
	l.report() // so that no handler is asked of a connection that has lost its partner
	l.mem.short = true
	defer func() { l.mem.short = false }()
	l.buffers.freeAll()
	allowed := l.publish()
	goal := allowed - allowed/16
	if l.holds() <= goal || l.now < l.mem.fruitless {
		l.mem.ceiling = max(l.mem.ceiling, l.mem.lent+allowed/16)
		return
	}
	for _, v := range l.victims() {
		if l.holds() <= goal {
			break
		}
		if v.c.gen == v.gen && v.c.here() {
			l.shedOne(v)
			l.report()
		}
	}
	if l.holds() > goal {
		l.mem.fruitless = l.now + shedPause
	}
	l.mem.ceiling = l.mem.lent + max(allowed-l.holds(), allowed/16)
	l.publish()
}

// shedPause is how long a loop that found too little doesn't search again, in nanoseconds.
const shedPause = 10e6

// victims returns the connections that may be shed, the dearest first.
func (l *Loop) victims() []victim {
	var all []victim
	l.table.each(func(c *Conn) {
		if v, ok := l.victim(c); ok {
			all = append(all, v)
		}
	})
	slices.SortFunc(all, func(a, b victim) int {
		if a.kind != b.kind {
			return int(a.kind) - int(b.kind)
		}
		if d := bits.Len(uint(b.bytes)) - bits.Len(uint(a.bytes)); d != 0 {
			return d
		}
		return sooner(a.c, b.c)
	})
	return all
}

// sooner orders connections by when they time out, those that never do last.
func sooner(a, b *Conn) int {
	switch {
	case a.class == 0 || b.class == 0:
		return int(min(b.class, 1)) - int(min(a.class, 1))
	case a.deadline < b.deadline:
		return -1
	case a.deadline > b.deadline:
		return 1
	}
	return 0
}

// victim says what a connection is to who looks for memory; false if ending it is no use. A server's
// goes with its client's.
func (l *Loop) victim(c *Conn) (victim, bool) {
	v := victim{mark{c, c.gen}, shedIdle, c.holds()}
	if c.has(away|lingering) || c.has(outgoing) && !c.idles() {
		return v, false
	}
	if c.has(dialing) { // a handshake
		v.kind = shedHead
		return v, v.bytes > 0
	}
	for u := range c.together {
		if u != c {
			v.bytes += u.holds()
		}
	}
	switch {
	case c.has(outgoing) || v.bytes == 0 && c.State == nil && c.tie == nil:
		return v, true
	case v.bytes == 0:
		return v, false
	case c.tie == nil && c.out == nil && c.HasInput() && !c.has(held|waiting|busy):
		v.kind = shedHead
	default:
		v.kind = shedBody
	}
	return v, true
}

// holds returns the bytes that a connection holds, by capacity.
func (c *Conn) holds() int {
	n := cap(c.in)
	if o := c.out; o != nil {
		n += cap(o.buf) + cap(o.sealed) + o.owned
		if o.pipe != nil {
			n += pipeSize
		}
	}
	if c.has(sealed) {
		s := c.svc.loop.sealOf(c)
		n += cap(s.in) + cap(s.plain)
	}
	if s, ok := c.svc.handler.(Shedder); ok && c.State != nil {
		n += s.Held(c)
	}
	return n
}

// shedOne ends a connection, with an answer if its peer takes one at once.
func (l *Loop) shedOne(v victim) {
	c := v.c
	defer l.guard(c)
	if v.kind == shedIdle && !c.unused() {
		return // its next request has come: once it is read, it is of another kind
	}
	l.memory.shed[v.kind].Add(1)
	switch v.kind {
	case shedHead:
		l.count.ShedHeads++
	case shedBody:
		l.count.ShedBodies++
	default:
		l.count.ShedIdle++
		l.closeInOrder(c)
		return
	}
	if s, ok := c.svc.handler.(Shedder); ok && c.out == nil && !c.has(dialing) {
		c.want = 0
		s.Shed(c)
		l.drive(c)
	}
	if c.has(open) && c.holds() > 0 {
		l.end(c, wayCut, unix.ENOMEM)
	}
}
