package eventloop

import "golang.org/x/sys/unix"

// All bytes of a connection come in by receive and go out by transmit and send: what a transport does with
// them belongs there (sealed.go). Who moves bytes past them, by splice(2), sendfile(2) or MSG_PEEK, asks first
// whether they are plain.

// Transport turns what a connection's handler writes into what its socket carries, and back: TLS is one. A
// connection without one is plain. Its bytes come in records, which it opens and seals whole; it does no
// reading or writing, keeps no record and is asked on the loop's goroutine alone.
//
// raw, where it is given, is what goes to the peer next: a method appends to it what the transport itself has to
// say, such as an alert. An error ends the connection, behind that.
type Transport interface {
	// Shake goes on with the handshake. in is all that has come and was not consumed; n is how much of it is
	// by now. It is asked first with nothing, then whenever more has come, and after Conn.Wake, until done.
	// What is left then are records. The handler's Opened comes behind that: to it the connection
	// is being made until then.
	Shake(raw, in []byte) (out []byte, n int, done bool, err error)

	// Open opens the records that in begins with, one after another, into to. It stops where the next one isn't
	// whole, or where there is room for less than MaxRecord bytes. io.EOF is the peer's word that it
	// has ended, behind to[:n]: nothing that follows is read.
	Open(raw, to, in []byte) (out []byte, n, used int, err error)

	// Seal appends records of head, then tail, to raw. Either may be empty.
	Seal(raw, head, tail []byte) []byte

	// End appends the word that no more comes, once. A connection that is closed in the middle has none.
	End(raw []byte) []byte

	// Freeze appends what another process goes on with, under a kind. A kind's number, not 0, is never used for
	// anything else. Nothing is opened or sealed afterwards unless the connection stays.
	Freeze(b []byte) (kind uint16, out []byte)

	// Free is called once, last: also behind Freeze, if another process has the connection.
	Free()
}

// MaxRecord is how many bytes a record opens to at most, and maxSealed how many it takes up in the socket.
const (
	MaxRecord = 16 << 10
	maxSealed = MaxRecord + 1<<10
)

// Transports makes the transports of a service's connections.
type Transports interface {
	// New is for a connection that was accepted, or dialled.
	New(c *Conn) Transport
	// Thaw is for one that comes from another process. An error refuses it, as a kind must be that it doesn't
	// know. The state's memory must not be kept.
	Thaw(c *Conn, kind uint16, state []byte) (Transport, error)
}

// SetTransports has the service's connections sealed. A handshake that takes longer than a timeout, 0 is none, ends its
// connection. It must be called before Listen, Dial and Arrive.
func (s *Service) SetTransports(t Transports, handshake Class) {
	s.transports, s.handshake = t, handshake
}

// TakeTransports has the service take sealed connections that come from other processes beside plain ones. Those that it makes
// itself are plain.
func (s *Service) TakeTransports(t Transports) { s.transports, s.either = t, true }

// plain reports whether what is in the socket is what handlers see, and the kernel may move it. It may not where
// another process may have a duplicate of the socket: it can be made to wait.
func (c *Conn) plain() bool { return !c.has(foreign | sealed) }

// receive reads once into p, which is not empty. more says that there may be more to read at once. A transport may have
// nothing yet of what it has read: then the error is EINTR or EAGAIN, for more to be read now or later.
func (l *Loop) receive(c *Conn, p []byte) (n int, more bool, errno unix.Errno) {
	if c.has(sealed) {
		return l.receiveSealed(c, p)
	}
	n, errno = read(c.fd, p)
	if errno == 0 {
		l.count.in(c, n)
	}
	return n, n == len(p), errno
}

// transmit writes head, then tail, in one system call, and returns how many bytes of both have gone. One
// may be empty. more says that something follows at once. The connection is not sealed: send is for those.
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
