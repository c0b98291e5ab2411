package eventloop

import "golang.org/x/sys/unix"

// bulkEnd is how few bytes a splice must find for the direction to be copied again. A
// direction is spliced once a read has filled the loop's whole memory: a pipe takes
// three system calls and more for what two do by copying, and only pays with much at once.
const bulkEnd = 16 << 10

// passKept passes input on that was kept, or waits for the partner to have room.
func (l *Loop) passKept(c *Conn) {
	to := c.tie.to
	if to.out != nil {
		l.topUp(c, to.out)
		c.WaitFor(to)
		return
	}
	n := len(c.in)
	if left := c.tie.left; left > 0 {
		n = int(min(left, int64(n)))
	}
	in := c.in
	if !l.hand(to, in[:n]) {
		return
	}
	if n == len(in) {
		l.freeInput(c)
	} else {
		c.in = in[:copy(in, in[n:])]
	}
	l.passed(c, n)
}

// pump reads once and passes on what came. The partner has room.
func (l *Loop) pump(c *Conn) {
	to := c.tie.to
	if c.tie.bulk && c.plain() && to.plain() && l.pumpPipe(c) {
		return
	}
	room := l.scratch[:l.maxMessage]
	if left := c.tie.left; left > 0 {
		room = room[:min(left, int64(len(room)))]
	}
	n, more, errno := l.receive(c, room)
	if !l.came(c, n, errno) {
		return
	}
	c.tie.bulk = n == l.maxMessage
	if !more && !c.has(hangup) {
		c.flags &^= readable
	}
	if l.hand(to, room[:n]) {
		l.passed(c, n)
	}
}

// hand writes bytes of one connection to another that has nothing waiting, and
// queues what it doesn't take. It returns false if that has ended.
func (l *Loop) hand(to *Conn, p []byte) bool {
	if to.has(sealed) {
		to.Write(p)
		to.Push()
		return to.has(open)
	}
	l.left -= callWork
	n, errno := l.transmit(to, p, nil, false)
	switch {
	case errno == unix.EAGAIN || errno == unix.EINTR:
		n = 0
	case errno != 0:
		to.Write(p)
		l.deafen(to, errno)
		return to.has(open)
	}
	l.count.out(to, n)
	if to.svc.rate() > 0 {
		to.KeepsUp(to.taking(), n)
		to.taking().pause(l.now) // block goes on
	}
	if n < len(p) {
		to.Write(p[n:])
		l.block(to)
	}
	return to.has(open)
}

// pumpPipe passes bytes on through a pipe: splice(2). It returns false if there is none
// to be had. The pipe is part of the partner's output from here on. No MORE flag is
// given: it would have the kernel hold the last bytes back for 200 ms.
func (l *Loop) pumpPipe(c *Conn) bool {
	p := l.getPipe()
	if p == nil {
		return false
	}
	size := pipeSize
	if left := c.tie.left; left > 0 {
		size = int(min(left, int64(size)))
	}
	n, errno := splice(c.fd, p.w, size)
	if errno == unix.EINVAL { // what can't be spliced is copied
		l.putPipe(p, true)
		return false
	}
	if !l.came(c, n, errno) {
		l.putPipe(p, true)
		return true
	}
	l.count.in(c, n)
	for n < size {
		more := l.pourMore(c, p, size-n)
		if more == 0 {
			break
		}
		n += more
		l.left -= more + callWork
	}
	c.tie.bulk = n >= bulkEnd
	to := c.tie.to
	o := l.output(to)
	o.pipe, o.piped = p, n
	to.Push()
	if to.has(open) {
		l.passed(c, n)
	}
	return true
}

// topUp puts more into a pipe that its receiver has not emptied, before its sender has
// to wait: so the next write is a large one, and the sender is woken less often.
func (l *Loop) topUp(c *Conn, o *output) {
	room := int64(pipeSize - o.piped)
	if left := c.tie.left; left > 0 {
		room = min(room, left-1) // the last byte comes by itself, and Passed with it
	}
	if o.pipe == nil || len(c.in) > 0 || !c.has(readable) || room < bulkEnd {
		return
	}
	n := l.pourMore(c, o.pipe, int(room))
	l.left -= n + callWork
	if n > 0 {
		o.piped += n
		l.passed(c, n)
	}
}

// pourMore puts up to n bytes more into a pipe, and returns how many. That the pipe is full or
// the socket empty or at its end is found again when the pipe is empty; an error is
// told only once.
func (l *Loop) pourMore(c *Conn, p *pipe, n int) int {
	n, errno := splice(c.fd, p.w, n)
	switch {
	case errno == unix.EAGAIN || errno == unix.EINTR:
		return 0
	case errno != 0:
		c.flags |= deaf
		return 0
	}
	l.count.in(c, n)
	return n
}

// passed counts bytes that were passed on.
func (l *Loop) passed(c *Conn, n int) {
	t := c.tie
	t.passed += uint64(n)
	l.touch(c)
	l.touch(t.to)
	if t.left > 0 {
		if t.left -= int64(n); t.left == 0 {
			if p, ok := c.svc.handler.(Passer); ok {
				p.Passed(c)
			}
			if c.has(open) && len(c.in) > 0 {
				c.flags |= paused // is the handler's again
			}
		} else if c.svc.rate() > 0 && !c.Brings(n) {
			if p, ok := c.svc.handler.(Pacer); ok {
				p.TooSlow(c)
			}
		}
	}
}

// touch arms a timeout anew: something moved.
func (l *Loop) touch(c *Conn) {
	if c.want != 0 && c.has(open) && !c.has(blocked|lingering|away|steady) {
		l.arm(c, c.want)
	}
}
