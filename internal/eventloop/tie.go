package eventloop

// Two things can hold between connections of a loop. Some *travel together*: they go to another process in one parcel,
// or none does (Join, Part). And one may *pass* its input to another of them, unseen by handlers (Pass, pass.go): that is
// between two.

// tie is what a connection has with others.
//
// Invariant: prev and next make a ring of two or more that travel together, each of which has a tie.
type tie struct {
	prev, next *Conn

	to     *Conn  // whose output the input goes to; nil if Pass was never called. Invariant: of the ring, and no other's
	left   int64  // bytes of input that go there; passAll is all of them
	passed uint64 // since Join
	bulk   bool   // they come in such numbers that a pipe pays

	sends Pace // of the peer, with what is passed
	takes Pace // …with all of the connection's outputs
}

// Join has two connections, and all that either travels with, go to another process together. What becomes
// of one when another ends is the handlers' affair.
func (l *Loop) Join(a, b *Conn) {
	for _, c := range [...]*Conn{a, b} {
		if c.tie == nil {
			c.tie = l.newTie()
			c.tie.prev, c.tie.next = c, c
		}
	}
	for c := range a.together {
		if c == b {
			return
		}
	}
	// The rings are cut behind a and behind b, and joined crosswise.
	x, y := a.tie.next, b.tie.next
	a.tie.next, y.tie.prev = y, a
	b.tie.next, x.tie.prev = x, b
}

func (l *Loop) newTie() *tie {
	if t, ok := l.ties.Take(); ok {
		return t
	}
	return new(tie)
}

// Part has a connection go by itself, and pass nothing. It does nothing to one that does.
func (l *Loop) Part(c *Conn) {
	if c.tie == nil {
		return
	}
	next := c.tie.next
	for u := range c.together {
		if u.tie.to == c {
			u.tie.to, u.tie.left = nil, 0
		}
	}
	c.tie.prev.tie.next, next.tie.prev = next, c.tie.prev
	l.untie(c)
	if next.tie.next == next {
		l.untie(next)
	}
	for _, u := range [...]*Conn{c, next} {
		if l.moving && u.has(outgoing) && u.idles() && u.here() {
			l.leave(u) // by itself, if its handler keeps it
		}
	}
}

func (l *Loop) untie(c *Conn) {
	*c.tie = tie{}
	l.ties.Keep(c.tie, 2*keepBuffers)
	c.tie = nil
}

// together yields the connections that travel together, beginning with this one.
func (c *Conn) together(yield func(*Conn) bool) {
	for u := c; yield(u) && u.tie != nil && u.tie.next != c; u = u.tie.next {
	}
}

// Partner returns the one connection that this one travels with; nil if it is alone, or there are more.
func (c *Conn) Partner() *Conn {
	if c.tie == nil || c.tie.next != c.tie.prev {
		return nil
	}
	return c.tie.next
}
