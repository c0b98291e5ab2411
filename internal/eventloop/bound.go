package eventloop

import (
	"net/netip"

	"golang.org/x/sys/unix"
)

// Bound bounds the connections that each client has at a service, which may be at other loops'
// services too. All bounds of a loop count in one place: a seat can be given back to any.
type Bound interface {
	// Enter counts a connection in unless its client has as many as it may: then ok is false.
	// Seat 0 says that there was no room to count the connection.
	Enter(client netip.Addr) (seat uint16, ok bool)
	// Join counts in a connection that has been let in before.
	Join(client netip.Addr) (seat uint16)
	// Leave counts a connection out.
	Leave(seat uint16)
}

// SetBound has the service serve no more connections of a client than that. It must be called
// before Listen and Arrive.
func (s *Service) SetBound(b Bound) { s.bound, s.loop.bound = b, b }

// enter lets a fresh connection in if its client may have another one, and closes it with RST
// if not. What it asks the kernel costs nothing where there is no bound.
func (l *Loop) enter(fd int32, s *Service) (seat uint16, ok bool) {
	peer := l.name(fd, unix.SYS_GETPEERNAME).Addr()
	if !peer.IsValid() { // it has gone: reading will tell
		return 0, true
	}
	seat, ok = s.bound.Enter(peer)
	if !ok {
		_ = unix.SetsockoptLinger(int(fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
		closeSocket(fd) // nothing has watched it: no event can mean it
		l.budget.give(1)
		l.count.ClientRefused++
		l.count.Closed++
		return 0, false
	}
	if seat == 0 {
		l.count.ClientUncounted++
	}
	return seat, true
}

// join counts in a client's connection that comes from another process, which has let it in.
func (l *Loop) join(c *Conn) {
	if c.svc.bound == nil || c.has(outgoing) {
		return
	}
	if peer := c.Remote().Addr(); peer.IsValid() {
		if c.seat = c.svc.bound.Join(peer); c.seat == 0 {
			l.count.ClientUncounted++
		}
	}
}

// exit counts a connection out that enter or join has counted in.
func (l *Loop) exit(c *Conn) {
	if c.seat != 0 {
		l.bound.Leave(c.seat)
		c.seat = 0
	}
}
