package eventloop

import "golang.org/x/sys/unix"

// sendMax bounds what one system call is offered, in bytes: the budget can't stop
// a call that has begun.
const sendMax = 1 << 20

// flush writes what waits. It returns true when nothing waits any more; false
// when the peer, the end of its share or an error stopped it.
//
// The first write is made whatever is left of the share: it is for what was done within it.
func (l *Loop) flush(c *Conn) bool {
	o := c.out
	for first := true; o.pending() > 0; first = false {
		if l.left <= 0 && !first {
			l.later(c)
			return false
		}
		l.left -= callWork
		n, full, errno := l.send(c, o)
		switch {
		case errno == unix.EINTR:
			continue
		case errno == unix.EAGAIN:
			l.block(c)
			return false
		case errno != 0, n == 0: // gone, or a file shorter than was promised
			l.deafen(c, errno)
			return false
		}
		l.left -= n
		l.count.out(c, n)
		if c.svc.rate() > 0 && !l.takes(c, n) {
			return false
		}
		if c.has(blocked) && !c.has(steady) {
			l.arm(c, c.svc.writeTimeout) // it moves
		}
		if full {
			l.block(c)
			return false
		}
	}
	if c.svc.rate() > 0 {
		c.taking().pause(l.now)
	}
	if o.tail != nil || o.fd >= 0 {
		c.flags |= tailDone
	}
	l.freeOutput(c)
	return true
}

// deafen records that a peer takes no more output. One end of a pair is read to the end of
// what its peer had sent before that, and then closed: an answer to what was not
// read to its end, as it may be. What waits for the peer stays, so that nothing more is
// read from the other end.
func (l *Loop) deafen(c *Conn, errno unix.Errno) {
	if c.tie == nil || errno == 0 || c.has(eof|ending) {
		l.end(c, wayClosed, errno)
		return
	}
	c.flags |= deaf | readable
	l.again(c)
}

// send makes one system call for the first bytes that wait. full says that the
// socket took less than it was offered, which says EAGAIN without another call.
func (l *Loop) send(c *Conn, o *output) (n int, full bool, errno unix.Errno) {
	if c.has(sealed) {
		return l.sendSealed(c, o)
	}
	head := o.buf[o.done:]
	tail := o.tail[:min(len(o.tail), sendMax)]
	switch {
	case len(head)+len(tail) > 0:
		n, errno = l.transmit(c, head, tail, o.left > 0)
	case o.pipe != nil:
		n, errno = splice(o.pipe.r, c.fd, o.piped)
		if errno == 0 {
			o.piped -= n
		}
		return n, false, errno // its short counts too
	case !c.plain():
		return l.sendCopied(c, o)
	default:
		// Its short counts have other reasons too.
		n, err := unix.Sendfile(int(c.fd), int(o.fd), &o.off, int(min(o.left, sendMax)))
		if err != nil {
			errno, _ := err.(unix.Errno)
			return 0, false, errno
		}
		o.left -= int64(n)
		return n, false, 0
	}
	if errno != 0 {
		return 0, false, errno
	}
	k := min(n, len(head))
	o.done += k
	o.tail = o.tail[n-k:] // stays non-nil, so that flush knows there was one
	return n, n < len(head)+len(tail), 0
}

// copyMax is how much of a file is copied at once, in bytes.
const copyMax = 64 << 10

// sendCopied is send for a part of a file to a socket that another process may have too. sendfile(2) and splice(2) wait
// where another process has cleared O_NONBLOCK; send(2) can be told not to.
func (l *Loop) sendCopied(c *Conn, o *output) (n int, full bool, errno unix.Errno) {
	buf := l.buffers.get(copyMax)
	defer l.buffers.put(buf)
	k, errno := readFile(o, buf[:copyMax])
	if k == 0 {
		return 0, false, errno
	}
	n, errno = l.transmit(c, buf[:k], nil, false)
	if errno != 0 {
		return 0, false, errno
	}
	o.off += int64(n)
	o.left -= int64(n)
	return n, n < k, 0
}

// readFile reads the next part of an output's file: pread(2). 0 bytes without an error are its end.
func readFile(o *output, buf []byte) (int, unix.Errno) {
	n, err := unix.Pread(int(o.fd), buf[:min(o.left, int64(len(buf)))], o.off)
	if err != nil {
		errno, _ := err.(unix.Errno)
		return 0, errno
	}
	return n, 0
}

// block waits for the peer to make room: EPOLLOUT from now on (it stays watched:
// edge-triggered, it only speaks after a write came short), and the write
// timeout in place of the handler's.
func (l *Loop) block(c *Conn) {
	if c.svc.rate() > 0 {
		c.Await(c.taking())
	}
	if !c.has(watchOut) {
		c.flags |= watchOut
		if c.has(registered) {
			if l.control(unix.EPOLL_CTL_MOD, c.fd, c.watches(), c.gen) != nil {
				c.Close()
				return
			}
		}
	}
	if !c.has(blocked) {
		c.flags |= blocked
		if !c.has(steady) {
			l.arm(c, c.svc.writeTimeout)
		}
	}
}
