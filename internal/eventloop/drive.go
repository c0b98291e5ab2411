package eventloop

import "golang.org/x/sys/unix"

// drive takes a connection as far as it goes now. Each pass does the first thing
// that can be done: output, then what the handler has left of the input, then
// the socket's input. Whatever made it runnable, an event, a timeout or a
// handler, this is the one place where it runs. When its share is used up it goes on after
// others have had theirs; what one system call moves may be more than that, which is cheap
// by the byte.
func (l *Loop) drive(c *Conn) {
	share := l.share()
	l.driven, l.left = c, share
	l.advance(c)
	l.done += share - l.left + callWork
	l.driven = nil
	if l.mem.lent > l.mem.ceiling && !l.mem.short {
		l.shed()
	}
}

// notable is what has a connection do anything else than wait for input and read it.
const notable = ending | tailDone | held | waiting | paused | shutting | eof

// advance does so, one thing in each pass. Output comes first: nothing else is done while some
// waits, but for who is read all the same.
func (l *Loop) advance(c *Conn) {
	for c.has(serving | ending) {
		if c.out != nil && !c.has(deaf) && !l.flush(c) && !c.duplex() {
			return
		}
		goesOn := true
		switch {
		case c.flags&notable == 0 && c.tie == nil && l.left > 0: // most are
			if goesOn = c.has(readable); goesOn {
				l.fill(c)
			}
		case c.has(serving):
			goesOn = l.step(c)
		case c.has(finishing):
			l.finish(c)
		default:
			goesOn = l.throwAway(c)
		}
		if !goesOn {
			if c.has(open) {
				l.settle(c)
			}
			return
		}
	}
}

// step does the first thing that there is to do for a connection whose handler is asked, and reports
// whether there may be another. The handler hears of what has been written first, then gets what it
// has left of the input, then what the socket has.
func (l *Loop) step(c *Conn) bool {
	dry := c.out == nil || c.has(deaf) // no output waits, or none ever goes
	switch {
	case c.tie != nil && l.reported < len(l.closing):
		l.again(c) // it may be one that it travels with: that is reported first
		return false
	case c.has(tailDone):
		if !l.hasShare(c) {
			return false
		}
		c.flags &^= tailDone
		c.svc.handler.Flushed(c)
	case c.has(shutting) && dry:
		l.shutWrite(c)
	case c.has(held | waiting):
		l.lookAfter(c)
		return false
	case c.has(paused) && !c.passes():
		if !l.hasShare(c) {
			return false
		}
		c.flags &^= paused
		l.present(c, c.in)
	case c.passes() && (len(c.in) > 0 || c.has(readable) && !c.has(eof) && c.tie.to.out != nil):
		l.passKept(c)
	case c.has(eof):
		return l.stepEnd(c, dry)
	default:
		return l.stepInput(c)
	}
	return true
}

// hasShare reports whether something of the connection's share is left; else it goes on later.
func (l *Loop) hasShare(c *Conn) bool {
	if l.left <= 0 {
		l.later(c)
		return false
	}
	return true
}

// stepInput reads once, if there is something and a share left.
func (l *Loop) stepInput(c *Conn) bool {
	switch {
	case !c.has(readable) || !l.hasShare(c):
		return false
	case c.passes():
		l.pump(c)
	default:
		l.fill(c)
	}
	return true
}

// stepEnd tells the handler once that the input has ended.
func (l *Loop) stepEnd(c *Conn, dry bool) bool {
	switch {
	case c.has(deaf):
		l.end(c, wayClosed, unix.ECONNRESET)
		return false
	case c.has(gone) && dry && (c.has(ended) || c.tie == nil):
		l.end(c, wayClosed, pendingError(c.fd))
		return false
	case c.has(ended):
		return false
	case c.passes() && c.Truncated():
		l.end(c, wayClosed, unix.ECONNRESET) // whom it is passed to must not take what came for all of it
		return false
	}
	c.flags |= ended
	c.svc.handler.Ended(c)
	return true
}

// throwAway reads once what a lingering connection's peer still sends, and closes it at the end of
// that.
func (l *Loop) throwAway(c *Conn) bool {
	switch {
	case c.has(eof):
		l.end(c, wayClosed, pendingError(c.fd))
		return false
	case !c.has(readable) || !l.hasShare(c):
		return false
	}
	l.fill(c)
	return true
}

// lookAfter closes a connection whose input stands still if it has broken off: nobody
// would hear of it. A server that waits is not meant: what it said before is the
// client's to take.
func (l *Loop) lookAfter(c *Conn) {
	switch {
	case c.has(held) && c.has(gone):
		l.end(c, wayClosed, socketError(c.fd))
	case !c.has(waiting) || c.has(outgoing):
	case c.has(deaf):
		l.end(c, wayClosed, unix.ECONNRESET)
	case c.has(gone):
		if errno := pendingError(c.fd); errno != 0 { // else it has ended in order
			l.end(c, wayClosed, errno)
		}
	}
}

// duplex reports whether a connection is read while its peer takes no output: what it
// sends doesn't go back to it. That is so of every server's: it may answer and not read.
func (c *Conn) duplex() bool {
	return c.has(serving) && (c.has(bothWays) || c.tie != nil && (c.tie.left != 0 || c.has(outgoing)))
}

// settle leaves a connection with nothing to do until its next event.
func (l *Loop) settle(c *Conn) {
	if c.has(blocked) && c.out == nil {
		c.flags &^= blocked
		if !c.has(lingering | steady) {
			l.arm(c, c.want)
		}
	}
}

// leastRead is how much is read at once of a peer that sends more than can be done in its
// share, in bytes: pipelined requests, many in a read.
const leastRead = 4 << 10

// fill reads once and presents what came.
func (l *Loop) fill(c *Conn) {
	kept := copy(l.scratch, c.in)
	most := l.maxMessage
	if c.has(crammed) {
		most = min(most, kept+leastRead) // what the handler has no time for would be kept
	}
	room := l.scratch[kept:most]
	if len(room) == 0 {
		room = l.scratch[kept:] // one byte, to see whether the message goes on
	}
	n, more, errno := l.receive(c, room)
	if !l.came(c, n, errno) {
		return
	}
	if kept+n > l.maxMessage {
		c.Close() // the handler wants more in one piece than a loop holds
		return
	}
	if !more && !c.has(hangup) {
		c.flags &^= readable
	}
	if !c.has(lingering) {
		l.present(c, l.scratch[:kept+n])
	}
}

// came records what a read has said, and reports whether bytes came.
func (l *Loop) came(c *Conn, n int, errno unix.Errno) bool {
	l.left -= callWork
	switch {
	case errno == unix.EAGAIN && c.has(deaf):
		l.end(c, wayClosed, unix.ECONNRESET)
	case errno == unix.EAGAIN:
		c.flags &^= readable
	case errno == unix.EINTR:
	case errno != 0:
		l.end(c, wayClosed, errno)
	case n == 0:
		c.flags = c.flags&^readable | eof
	default:
		l.left -= n
		return true
	}
	return false
}

// present gives input to the handler and keeps what it doesn't consume.
func (l *Loop) present(c *Conn, in []byte) {
	if len(in) == 0 {
		return
	}
	before := l.left
	n := c.svc.handler.Received(c, in)
	if !c.has(open) {
		return
	}
	rest := in[n:]
	if l.left > 0 {
		c.flags &^= crammed
	} else if len(rest) > 0 || before-l.left > len(in) {
		c.flags |= crammed
	}
	if c.has(ending) {
		// Nobody will ask for it; what the peer still sends is not awaited.
		rest = nil
	}
	switch {
	case len(rest) == 0:
		l.freeInput(c)
	case cap(c.in) >= len(rest) && (cap(c.in) < 4*len(rest) || cap(c.in) <= minBuffer):
		c.in = c.in[:copy(c.in[:len(rest)], rest)]
	default:
		kept := append(l.buffers.get(len(rest)), rest...)
		l.freeInput(c)
		c.in = kept
	}
	if len(rest) > 0 && !c.passes() && (l.left <= 0 || c.Congested() && !c.has(deaf) && !c.duplex() || c.has(held|waiting)) {
		c.flags |= paused
	}
}

// freeInput takes the input back that was kept.
func (l *Loop) freeInput(c *Conn) {
	if c.in != nil {
		l.buffers.put(c.in)
		c.in = nil
	}
}

// finish ends a connection whose output has gone. Input that is or may be unread
// makes it linger even unasked: close(2) would answer it with RST.
func (l *Loop) finish(c *Conn) {
	if l.endSealed(c) {
		return
	}
	if c.has(eof) || !c.has(linger|readable) {
		c.Close()
		return
	}
	if unix.Shutdown(int(c.fd), unix.SHUT_WR) != nil {
		c.Close()
		return
	}
	c.become(lingering)
	l.freeInput(c)
	if c.has(sealed) {
		l.sealOf(c).free(&l.buffers)
	}
	l.arm(c, l.lingerClass)
}
