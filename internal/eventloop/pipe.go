package eventloop

import "golang.org/x/sys/unix"

// pipe carries bytes from one socket to another inside the kernel. It is lent to an
// output while bytes are in it.
type pipe struct{ r, w int32 }

// pipeSize is the room in a pipe, in bytes, and what one splice(2) is asked for.
const pipeSize = 1 << 20

// keepPipes bounds the empty pipes that are kept for later: each is two descriptors. maxPipes
// bounds those that are lent: root's are bounded by nothing else, and each may hold
// pipeSize. Beyond it, and where they would be half of what the loop may hold, bytes are copied.
const (
	keepPipes = 8
	maxPipes  = 64
)

// getPipe lends an empty pipe; nil if there is none to be had. It is counted as full from now on.
func (l *Loop) getPipe() *pipe {
	if l.piping >= maxPipes || (l.piping+1)*pipeSize > l.mem.ceiling/2 || l.mem.lent+pipeSize > l.mem.ceiling {
		return nil
	}
	p, ok := l.pipes.Take()
	if !ok {
		if n := l.budget.claim(2, forClients); n < 2 { // copying needs none
			l.budget.give(n)
			return nil
		}
		if p = newPipe(); p == nil {
			l.budget.give(2)
			return nil
		}
	}
	l.piping++
	l.mem.lent += pipeSize
	return p
}

func newPipe() *pipe {
	var fds [2]int
	if unix.Pipe2(fds[:], unix.O_NONBLOCK|unix.O_CLOEXEC) != nil {
		return nil
	}
	// Else it has 64 KiB: the user's share of pipe memory is used up, pipe(7).
	_, _ = unix.FcntlInt(uintptr(fds[1]), unix.F_SETPIPE_SZ, pipeSize)
	return &pipe{int32(fds[0]), int32(fds[1])}
}

// putPipe takes a pipe back, to be used again if it is empty.
func (l *Loop) putPipe(p *pipe, empty bool) {
	l.piping--
	l.mem.lent -= pipeSize
	if !empty || l.budget.free(forClients) <= 0 || !l.pipes.Keep(p, keepPipes) {
		l.closePipe(p)
	}
}

// closePipe closes a pipe that was counted.
func (l *Loop) closePipe(p *pipe) {
	p.close()
	l.budget.give(2)
}

func (p *pipe) close() {
	closeFile(p.r)
	closeFile(p.w)
}

// unpipe takes what is in an output's pipe into its memory: a pipe goes nowhere.
func (l *Loop) unpipe(c *Conn) {
	o := c.out
	if o == nil || o.pipe == nil {
		return
	}
	for o.piped > 0 {
		o.buf = l.room(o, o.piped)
		n, err := unix.Read(int(o.pipe.r), o.buf[len(o.buf):len(o.buf)+o.piped])
		if n <= 0 && err != unix.EINTR {
			break // can't be: nobody else reads from it
		}
		if n > 0 {
			o.buf = o.buf[:len(o.buf)+n]
			o.piped -= n
		}
	}
	l.putPipe(o.pipe, o.piped == 0)
	o.pipe, o.piped = nil, 0
}

// splice moves up to n bytes between a socket and a pipe, either way: splice(2). Both are
// non-blocking, so RawSyscall is sound. SPLICE_F_NONBLOCK speaks for the pipe alone, which is why no
// foreign socket is spliced.
func splice(from, to int32, n int) (int, unix.Errno) {
	r, _, errno := unix.RawSyscall6(unix.SYS_SPLICE, uintptr(from), 0, uintptr(to), 0, uintptr(n),
		unix.SPLICE_F_NONBLOCK|unix.SPLICE_F_MOVE)
	return int(r), errno
}
