package eventloop

import (
	"time"

	"golang.org/x/sys/unix"
)

// DrainTo is Drain for connections that another process is to take: Depart gives
// them out, and Leaving stays false until Stay says that nobody will. leaving is
// called, on the loop's goroutine, whenever Depart has something to give again.
func (l *Loop) DrainTo(leaving func()) {
	if l.moving {
		return
	}
	l.draining, l.moving, l.nudge = true, true, leaving
	// In the order of their deadlines, so that the next loop can sort them in
	// without a search.
	for i := range l.classes {
		for n, next := l.classes[i].conns.head, (*node)(nil); n != nil; n = next {
			next = n.next
			l.leave(connOf(n))
		}
	}
	l.table.each(func(c *Conn) {
		if c.class == 0 && !c.has(away) { // Return and Begin handle the others
			l.leave(c)
		}
	})
}

// Stay ends DrainTo's hope: connections that are here end at the next good moment,
// unless DrainTo is called again.
func (l *Loop) Stay() {
	if l.moving {
		l.countStayed()
	}
	l.moving = false
	l.departing = nil
	l.closeIdle()
}

// Leaving tells a handler to end the connection at the next good moment: its
// generation ends, and nobody takes it over.
func (c *Conn) Leaving() bool {
	l := c.svc.loop
	return l.draining && (!l.moving || c.has(stays))
}

// leave has Depart give a connection out, unless it has to stay for now.
func (l *Loop) leave(c *Conn) {
	switch {
	case c.has(busy | dialing), c.has(outgoing) && !c.idles():
		return // SetBusy handles it, or Part, or shaken; or it goes with its partner
	case c.svc.stays:
		l.stay(c)
		return
	}
	if len(l.departing) == 0 && l.nudge != nil {
		l.nudge()
	}
	l.departing = append(l.departing, mark{c, c.gen})
}

// stay has a connection end here. One to a server that is idle has no reason to.
func (l *Loop) stay(c *Conn) {
	if !c.has(stays|outgoing) && !c.svc.stays {
		l.count.Stayed++
	}
	c.flags |= stays
	if c.idles() && !c.has(away) {
		l.closeInOrder(c)
	}
}

// maxDepart bounds the bytes that one Depart hands out, but for the last parcel's;
// maxParcel those of one connection that may move.
const (
	maxDepart = 1 << 20
	maxParcel = 8 << 20
)

// Depart takes up to max descriptors' worth of connections out of a draining
// loop. What Parcel's slices refer to is not touched until the answer.
func (l *Loop) Depart(max int) []Departure {
	out := make([]Departure, 0, min(max, len(l.departing)))
	size := 0
	for len(l.departing) > 0 && size < maxDepart {
		m := l.departing[0]
		c := m.c
		if !l.departs(m) {
			l.departing = l.departing[1:]
			continue
		}
		d := Departure{Service: c.svc, at: m}
		if !l.packAll(c, &d.Parcel) {
			l.report() // closed, and found so in the next pass
			continue
		}
		if max -= d.countFDs(); max < 0 && len(out) > 0 {
			break
		}
		n := d.size()
		l.departing = l.departing[1:]
		if n > maxParcel {
			l.stay(c)
			continue
		}
		size += n
		for u := range c.together {
			l.suspend(u)
		}
		out = append(out, d)
	}
	if len(l.departing) == 0 {
		l.departing = nil
	}
	return out
}

// departs reports whether a connection that was to depart still is.
func (l *Loop) departs(m mark) bool {
	c := m.c
	if c.gen != m.gen || !c.has(open) || c.has(away|busy) || c.has(outgoing) && !c.idles() {
		return false
	}
	n, ok := 0, true
	for u := range c.together {
		if u.has(busy) {
			return false // SetBusy handles all of them
		}
		_, moves := u.svc.handler.(Mover)
		n, ok = n+1, ok && moves
	}
	if ok = ok && n <= max(l.maxTogether, maxTogether); !ok {
		l.stay(c)
	}
	return ok
}

// maxTogether is how many connections travel together at most: of a parcel with more, handover's formats know nothing.
// Those that are more end where they are.
const maxTogether = 2

// packAll writes a connection down, and those that travel with it. It returns false if that ended one.
func (l *Loop) packAll(c *Conn, p *Parcel) bool {
	last := p
	for u := range c.together {
		if u != c {
			last.Partner = new(Parcel)
			last = last.Partner
		}
		if !l.pack(u, last) {
			return false
		}
		if u.passes() {
			last.PassTo = c.placeOf(u.tie.to)
		}
	}
	return true
}

// placeOf returns the place of another connection among those that travel together, beginning with this one.
func (c *Conn) placeOf(other *Conn) (n int) {
	for u := range c.together {
		if u == other {
			break
		}
		n++
	}
	return n
}

// pack writes a connection down, or closes it if its handler panics.
func (l *Loop) pack(c *Conn, p *Parcel) (ok bool) {
	defer l.guard(c)
	m := c.svc.handler.(Mover)
	l.unpipe(c)
	*p = Parcel{
		FD: int(c.fd), Facts: c.wireFacts(), In: c.in, File: -1, Kind: m.Kind(c),
		Passing: c.Passing(), Passed: c.Passed(), Age: c.Age(), Served: c.served,
	}
	if c.has(sealed) {
		l.sealOf(c).pack(p)
	}
	if o := c.out; o != nil {
		p.Sealed = o.sealed[o.gone:]
		p.Out, p.Tail = o.buf[o.done:], o.tail
		if o.fd >= 0 {
			p.File, p.Off, p.Left = int(o.fd), o.off, o.left
		}
	}
	if c.class != 0 {
		p.Due = max(time.Duration(c.deadline-l.now), 1)
	}
	p.State, p.Files = m.Freeze(c, nil)
	return c.has(open)
}

// suspend stops all that could move a connection. Its epoll registration belongs
// to the open file description, which lives on elsewhere: it is removed by name.
func (l *Loop) suspend(c *Conn) {
	if c.seat != 0 {
		l.bound.Depart()
	}
	c.flags = c.flags&^unheard | away
	if c.has(registered) {
		c.flags &^= registered
		_ = l.control(unix.EPOLL_CTL_DEL, c.fd, 0, 0)
	}
	if c.class == 0 {
		c.deadline = 0
	}
	l.disarm(c)
}

// here reports whether a departure's connection is still this loop's to decide on.
func (d *Departure) here() bool {
	return d.at.c.gen == d.at.gen && d.at.c.has(open) && d.at.c.has(away)
}

// Departed ends a connection here that has another owner now.
func (l *Loop) Departed(d *Departure) {
	if !d.here() {
		return
	}
	l.endAll(d.at.c, wayGiven)
}

// Discard ends a connection that Arrive made, in place of Begin: it is the old
// owner's still.
func (l *Loop) Discard(c *Conn) { l.endAll(c, wayClosed) }

// endAll ends a connection that is away, and those that travel with it.
func (l *Loop) endAll(c *Conn, how way) {
	for u := range c.together {
		if u.has(open) {
			l.end(u, how, 0)
		}
	}
}

// Return goes on with a connection that nobody took. With again, Depart will
// give it out once more; else it stays to its end.
func (l *Loop) Return(d *Departure, again bool) {
	if !d.here() {
		return
	}
	c := d.at.c
	l.revive(c)
	switch {
	case !c.has(open):
	case again && l.moving:
		l.leave(c)
	default:
		l.stay(c)
	}
}
