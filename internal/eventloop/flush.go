package eventloop

import "golang.org/x/sys/unix"

// sendfileMax bounds one sendfile(2), in bytes.
const sendfileMax = 1 << 20

// flush writes what waits. It returns true when nothing waits any more; false
// when the peer, the turn's budget or an error stopped it.
func (l *Loop) flush(c *Conn, budget *int) bool {
	o := c.out
	for o.pending() > 0 {
		if *budget <= 0 {
			l.again(c)
			return false
		}
		n, errno := l.send(c, o)
		switch {
		case errno == unix.EAGAIN:
			l.block(c)
			return false
		case errno == unix.EINTR:
			continue
		case errno != 0, n == 0: // gone, or a file shorter than was promised
			c.Close()
			return false
		}
		*budget -= n
		l.count.BytesOut += uint64(n)
		if c.has(blocked) {
			l.arm(c, c.svc.writeTimeout) // it moves
		}
	}
	if o.tail != nil || o.fd >= 0 {
		c.flags |= tailDone
	}
	l.release(c)
	return true
}

// send makes one system call for the first bytes that wait.
func (l *Loop) send(c *Conn, o *output) (int, unix.Errno) {
	head := o.buf[o.done:]
	switch {
	case len(head) > 0 && len(o.tail) > 0:
		n, errno := l.gather(c.fd, head, o.tail)
		if errno == 0 {
			k := min(n, len(head))
			o.done += k
			o.advance(n - k)
		}
		return n, errno
	case len(head) > 0:
		flags := 0
		if o.left > 0 {
			flags = unix.MSG_MORE // the file follows at once
		}
		n, errno := write(c.fd, head, flags)
		if errno == 0 {
			o.done += n
		}
		return n, errno
	case len(o.tail) > 0:
		n, errno := write(c.fd, o.tail, 0)
		if errno == 0 {
			o.advance(n)
		}
		return n, errno
	}
	n, err := unix.Sendfile(int(c.fd), int(o.fd), &o.off, int(min(o.left, sendfileMax)))
	if err != nil {
		errno, _ := err.(unix.Errno)
		return 0, errno
	}
	o.left -= int64(n)
	return n, 0
}

// advance takes n written bytes off the tail, leaving it non-nil so that flush
// knows there was one.
func (o *output) advance(n int) { o.tail = o.tail[n:] }

// block waits for the peer to make room: EPOLLOUT from now on (it stays watched:
// edge-triggered, it only speaks after a write came short), and the write
// timeout in place of the handler's.
func (l *Loop) block(c *Conn) {
	if !c.has(watchOut) {
		c.flags |= watchOut
		if c.has(registered) {
			if l.control(unix.EPOLL_CTL_MOD, c.fd, watchIn|unix.EPOLLOUT, c.gen) != nil {
				c.Close()
				return
			}
		}
	}
	if !c.has(blocked) {
		c.flags |= blocked
		l.arm(c, c.svc.writeTimeout)
	}
}
