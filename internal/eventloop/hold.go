package eventloop

import "golang.org/x/sys/unix"

// Hold stops the input: nothing is read, presented or passed until Release. A peer
// that is gone in both directions closes the connection all the same.
func (c *Conn) Hold() { c.flags |= held }

// Duplex has a connection read, or not any more, while its own output waits for the peer: what
// it sends is another's to wait for. Its handler must not answer it then.
func (c *Conn) Duplex(on bool) {
	c.flags &^= bothWays
	if on {
		c.flags |= bothWays
	}
}

// Release ends Hold.
func (c *Conn) Release() {
	if !c.has(open) {
		return
	}
	c.flags &^= held
	c.svc.loop.hear(c)
	if len(c.in) > 0 && !c.passes() {
		c.flags |= paused
	}
	if c.has(readable|paused|eof|gone) || c.passes() && len(c.in) > 0 {
		if l := c.svc.loop; l.driven != c {
			l.again(c)
		}
	}
}

// WaitFor stops the input until the other connection's output has all gone; it does
// nothing if none waits. Only one can wait for a connection, its partner.
func (c *Conn) WaitFor(other *Conn) {
	if other.out == nil || !other.has(open) {
		return
	}
	other.out.waiter = mark{c, c.gen}
	if c.tie != nil && !c.has(outgoing) {
		c.tie.sends.pause(c.svc.loop.now)
	}
	c.flags |= waiting
}

// unhear has epoll say nothing of a connection's input, which waits and keeps coming:
// each segment would wake the loop for nothing.
func (l *Loop) unhear(c *Conn) {
	if l.control(unix.EPOLL_CTL_MOD, c.fd, c.watches()&^unix.EPOLLIN, c.gen) == nil {
		c.flags |= unheard
	}
}

// hear ends unhear, when nothing stops the input any more.
func (l *Loop) hear(c *Conn) {
	if !c.has(unheard) || c.has(waiting|held) {
		return
	}
	c.flags &^= unheard
	if c.has(registered) && l.control(unix.EPOLL_CTL_MOD, c.fd, c.watches(), c.gen) != nil {
		l.end(c, wayClosed, unix.ENOMEM)
	}
}

// unwait ends WaitFor.
func (l *Loop) unwait(c *Conn) {
	c.flags &^= waiting
	if c.tie != nil && !c.has(outgoing) {
		c.Await(&c.tie.sends)
	}
	l.hear(c)
	if len(c.in) > 0 && !c.passes() && !c.has(held) {
		c.flags |= paused
	}
	if !c.has(away) {
		l.again(c)
	}
}

// Push writes what is queued now: for a connection whose handler isn't the one that
// is called.
func (c *Conn) Push() {
	if !c.has(open) || c.out == nil || c.has(dialing|blocked|away|deaf) {
		return
	}
	l := c.svc.loop
	before := l.left
	l.left = leastShare
	flushed := l.flush(c)
	l.left, l.done = before, l.done+leastShare-l.left
	if flushed && c.has(tailDone|paused|ending|shutting) {
		l.again(c)
	}
}

// ShutWrite ends what the peer is sent, when the output has gone: shutdown(2). Its
// input is read on.
func (c *Conn) ShutWrite() {
	if !c.has(open) || c.has(shut) {
		return
	}
	c.flags |= shutting
	if c.out == nil && !c.has(dialing|away) {
		c.svc.loop.shutWrite(c)
	}
}

func (l *Loop) shutWrite(c *Conn) {
	if l.endSealed(c) {
		if c.Push(); c.out != nil || !c.has(open) {
			return // the end comes behind that
		}
	}
	c.flags = c.flags&^shutting | shut
	_ = unix.Shutdown(int(c.fd), unix.SHUT_WR) // a peer that is gone is seen by reading
}

// Shut reports whether ShutWrite was called.
func (c *Conn) Shut() bool { return c.has(shutting | shut) }

// HasEnded reports whether the peer's side has ended, and Ended been called.
func (c *Conn) HasEnded() bool { return c.has(ended) }

// Abort closes the connection with RST: its peer sees that what it has got is not all,
// and output that waits is lost.
func (c *Conn) Abort() {
	if !c.has(open) {
		return
	}
	c.ResetOnClose()
	c.Close()
}

// SetBusy keeps a connection, and its partner, from being taken over by another
// process until it is called with false.
func (c *Conn) SetBusy(on bool) {
	if on {
		c.flags |= busy
		return
	}
	if !c.has(busy) {
		return
	}
	c.flags &^= busy
	if l := c.svc.loop; l.moving && c.has(open) && !c.has(away) {
		l.leave(c)
	}
}

// Monotonic returns this turn's CLOCK_MONOTONIC, in nanoseconds: the same in every
// process.
func (l *Loop) Monotonic() int64 { return l.epoch + l.now }
