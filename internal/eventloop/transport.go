package eventloop

import "golang.org/x/sys/unix"

// All bytes of a connection come in by receive and go out by transmit: what a transport does with them,
// as TLS does, belongs here. Who moves bytes past these two, by splice(2) or sendfile(2), asks plain
// first.

// plain reports whether what is in the socket is what handlers see, so that the kernel may move it. Of a
// socket that another process may have a duplicate of it may not: it can be made to wait.
func (c *Conn) plain() bool { return !c.has(foreign) }

// receive reads once into p, which is not empty.
func (l *Loop) receive(c *Conn, p []byte) (int, unix.Errno) { return read(c.fd, p) }

// transmit writes head, then tail, in one system call, and returns how many bytes of both have gone. One
// may be empty. more says that something follows at once.
func (l *Loop) transmit(c *Conn, head, tail []byte, more bool) (int, unix.Errno) {
	switch {
	case len(tail) == 0 && !more:
		return write(c.fd, head, 0)
	case len(tail) == 0:
		return write(c.fd, head, unix.MSG_MORE)
	case len(head) == 0:
		return write(c.fd, tail, 0)
	}
	return l.gather(c.fd, head, tail)
}
