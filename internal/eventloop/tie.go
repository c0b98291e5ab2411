package eventloop

// Passer is a Handler whose connections pass a number of bytes on, by Pass.
type Passer interface {
	Handler
	// Passed is called when the last of the bytes that Pass was told of is on its way.
	Passed(c *Conn)
}

// tie is one end of a pair.
//
// Invariant: peer.tie.peer is the connection whose tie it is.
type tie struct {
	peer   *Conn
	left   int64  // bytes of input that go to the peer; passAll is all of them
	passed uint64 // since Join
	pace   Pace   // of the peer that sends it
	bulk   bool   // they come in such numbers that a pipe pays
}

// passAll as a number of bytes is as many as there are.
const passAll = -1

// Join makes a pair of a client's connection and an outgoing one, which go to
// another process together. What becomes of one when the other ends is the handlers' affair.
func (l *Loop) Join(client, upstream *Conn) {
	if client.tie != nil || upstream.tie != nil {
		panic("eventloop: a connection is joined already")
	}
	client.tie, upstream.tie = l.newTie(upstream), l.newTie(client)
}

func (l *Loop) newTie(peer *Conn) *tie {
	if t, ok := l.ties.Take(); ok {
		t.peer = peer
		return t
	}
	return &tie{peer: peer}
}

// Part ends a pair, from either end.
func (l *Loop) Part(c *Conn) { l.part(c) }

func (l *Loop) part(c *Conn) {
	if c.tie == nil {
		return
	}
	p := c.tie.peer
	for _, c := range [...]*Conn{c, p} {
		*c.tie = tie{}
		l.ties.Keep(c.tie, 2*keepBuffers)
		c.tie = nil
	}
	for _, c := range [...]*Conn{c, p} {
		if l.moving && c.has(outgoing) && c.has(open) && !c.has(away) {
			l.leave(c) // by itself, if its handler keeps it
		}
	}
}

// Partner returns the connection that this one is joined to, nil if there is none.
func (c *Conn) Partner() *Conn {
	if c.tie == nil {
		return nil
	}
	return c.tie.peer
}

// Pass has the next n bytes of the connection's input go to its partner, unseen by
// the handler and beginning with what is kept; n < 0 has all of them go. A partner
// that doesn't take them stops the reading. After n bytes Passer.Passed is called;
// the end of the input is told by Ended, as ever.
func (c *Conn) Pass(n int64) {
	c.tie.left = max(n, passAll)
	c.flags &^= paused
	c.Await(&c.tie.pace)
	c.Release()
}

// Passing returns how many bytes are still to be passed; less than 0 for all, 0 for
// none.
func (c *Conn) Passing() int64 {
	if c.tie == nil {
		return 0
	}
	return c.tie.left
}

// Passed returns how many bytes of the connection's input its partner got since Join.
func (c *Conn) Passed() uint64 {
	if c.tie == nil {
		return 0
	}
	return c.tie.passed
}

// passes tells whether input goes to the partner.
func (c *Conn) passes() bool { return c.tie != nil && c.tie.left != 0 }
