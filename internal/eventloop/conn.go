package eventloop

import "golang.org/x/sys/unix"

// Conn is one connection, of a client or made by Dial. An idle one is this struct and
// nothing else.
type Conn struct {
	node // of its timeout; first: see connOf

	// State belongs to the handler; nil while the connection is idle.
	State any

	svc *Service
	in  []byte  // lent: input that was presented and not consumed
	out *output // lent: nil when nothing waits
	tie *tie    // lent: nil unless joined to another connection

	fd     int32
	gen    uint32 // distinguishes the uses of a descriptor
	born   uint32 // Age, in ageUnit on the loop's clock
	served uint32 // CountServed
	class  Class  // whose list it is on
	want   Class  // what SetTimeout asked for
	seat   uint16 // of a bound; 0: none
	flags  flag
}

// Away reports whether the connection is on its way to another process, or from one. It
// can't be used meanwhile.
func (c *Conn) Away() bool { return c.has(away) }

// Loop returns the loop that the connection belongs to.
func (c *Conn) Loop() *Loop { return c.svc.loop }

// Write queues a copy of p.
func (c *Conn) Write(p []byte) {
	if !c.has(open) || len(p) == 0 {
		return
	}
	l := c.svc.loop
	o := l.output(c)
	o.buf = append(l.room(o, len(p)), p...)
}

// Reserve returns the queued bytes with room for n more, to be appended to and
// given back to Commit before anything else is done with the connection. It saves
// Write's copy.
func (c *Conn) Reserve(n int) []byte {
	if !c.has(open) {
		return make([]byte, 0, n)
	}
	l := c.svc.loop
	return l.room(l.output(c), n)
}

// Commit takes what was appended to the slice that Reserve returned.
func (c *Conn) Commit(buf []byte) {
	if c.has(open) {
		c.svc.loop.mem.lent += cap(buf) - cap(c.out.buf) // append may have moved it
		c.out.buf = buf
	}
}

// WriteStatic queues p without copying it; p must never change. Nothing more may
// be queued until Flushed is called, which it is not for an empty p.
func (c *Conn) WriteStatic(p []byte) {
	if !c.has(open) || len(p) == 0 {
		return
	}
	c.svc.loop.output(c).tail = p
}

// SendFile queues n > 0 bytes of a file from offset off, by sendfile(2). It owns
// the descriptor from now on, even if the connection is closed. Nothing more may
// be queued until Flushed is called. If the file turns out to be shorter the
// connection is closed, since the promised length can't be kept.
func (c *Conn) SendFile(fd int, off, n int64) {
	if !c.has(open) {
		closeFile(int32(fd))
		return
	}
	if c.out != nil && c.out.tailed() {
		closeFile(int32(fd)) // output will panic
	}
	o := c.svc.loop.output(c)
	o.fd, o.off, o.left = int32(fd), off, n
	c.svc.loop.budget.take(1)
}

// highWater is the queued output at which a handler should stop, in bytes.
const highWater = 64 << 10

// Congested tells a handler to queue no more for now.
func (c *Conn) Congested() bool {
	o := c.out
	return o != nil && (o.tailed() || len(o.buf)-o.done >= highWater)
}

// SetTimeout arms the connection's one timeout, in place of an earlier one. While
// output waits for the peer the service's write timeout runs instead. What is
// passed from or to the connection arms it anew.
func (c *Conn) SetTimeout(id Class) {
	c.want = id
	c.flags &^= steady
	if c.has(open) && !c.has(blocked|lingering|away) {
		c.svc.loop.arm(c, id)
	}
}

// SetDeadline is SetTimeout for what nothing may put off: neither output that
// waits nor what is passed.
func (c *Conn) SetDeadline(id Class) {
	c.want = id
	c.flags |= steady
	if c.has(open) && !c.has(lingering|away) {
		c.svc.loop.arm(c, id)
	}
}

// Finish closes the connection when its output has been written. With
// untilPeer, the writing side is shut first and input thrown away until the
// peer has closed or two seconds have passed: a close with input unread would
// send RST, which can destroy the answer on its way (RFC 9112 section 9.6).
//
// Received and Ended are not called any more; input that they left is dropped.
//
// A connection that is being made is closed at once.
func (c *Conn) Finish(untilPeer bool) {
	switch {
	case c.has(dialing):
		c.Close()
		return
	case c.has(serving):
		c.become(finishing)
		c.flags &^= paused
	}
	if untilPeer {
		c.flags |= linger
	}
}

// Finishing reports whether Finish or Close was called.
func (c *Conn) Finishing() bool { return !c.has(dialing | serving) }

// Close closes the connection at once; output that waits is lost.
func (c *Conn) Close() {
	if c.has(open) {
		c.svc.loop.end(c, wayClosed, 0)
	}
}

// Wake has the loop carry on with the connection in its next turn. It is for what
// was queued outside a call of this connection's handler: from a function given
// to Post, or on behalf of another connection.
func (c *Conn) Wake() {
	if c.has(open) {
		c.svc.loop.again(c)
	}
}

func closeFile(fd int32) { _ = unix.Close(int(fd)) }
