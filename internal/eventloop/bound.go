package eventloop

import (
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// Bound bounds the connections that each client has at a service, which may be at other loops'
// services too. All bounds of a loop count in one place: a seat can be given back to any.
type Bound interface {
	// Enter counts a connection in unless its client has as many as it may: then ok is false.
	// Seat 0 says that there was no room to count the connection. With doubt, connections were on
	// their way meanwhile and may have been counted at both ends: ask again.
	Enter(client netip.Addr) (seat uint16, ok, doubt bool)
	// Join counts in a connection that has been let in before.
	Join(client netip.Addr) (seat uint16)
	// Leave counts a connection out.
	Leave(seat uint16)
	// Depart says that a connection is on its way, so that it may be counted twice; Settle that it
	// is no more.
	Depart()
	Settle()
}

// doubt is a fresh connection that can be neither let in nor refused yet.
type doubt struct {
	fd     int32
	svc    *Service
	client netip.Addr
	until  int64 // on the loop's clock
}

const (
	maxDoubts = 64
	// doubtTime is how long a doubt lasts at most: a handover is over in much less, but whoever
	// spoils the counts could make one last for ever.
	doubtTime = int64(200 * time.Millisecond)
)

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
	seat, ok, unsure := s.bound.Enter(peer)
	switch {
	case ok:
		l.uncounted(seat)
	case unsure && len(l.doubts) < maxDoubts:
		l.emptied = false
		if l.doubts = append(l.doubts, doubt{fd, s, peer, l.now + doubtTime}); len(l.doubts) == 1 {
			l.Post(l.decide)
		}
	default:
		l.refuse(fd)
	}
	return seat, ok
}

// decide looks again at the doubts, once in each turn.
func (l *Loop) decide() {
	all := l.doubts
	l.doubts = l.doubts[:0]
	for _, d := range all {
		seat, ok, unsure := d.svc.bound.Enter(d.client)
		if !ok && unsure && l.now < d.until {
			l.doubts = append(l.doubts, d)
			continue
		}
		if ok {
			l.uncounted(seat)
			l.greet(d.fd, d.svc, seat)
		} else {
			l.refuse(d.fd)
		}
	}
	if len(l.doubts) > 0 {
		l.Post(l.decide)
	}
}

// refuseAll ends the doubts.
func (l *Loop) refuseAll() {
	for _, d := range l.doubts {
		l.refuse(d.fd)
	}
	l.doubts = l.doubts[:0]
}

// refuse closes a fresh connection with RST.
func (l *Loop) refuse(fd int32) {
	_ = unix.SetsockoptLinger(int(fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	closeSocket(fd) // nothing has watched it: no event can mean it
	l.budget.give(1)
	l.count.ClientRefused++
	l.count.Closed++
}

func (l *Loop) uncounted(seat uint16) {
	if seat == 0 {
		l.count.ClientUncounted++
	}
}

// join counts in a client's connection that comes from another process, which has let it in.
func (l *Loop) join(c *Conn) {
	if c.svc.bound == nil || c.has(outgoing) {
		return
	}
	if peer := c.Remote().Addr(); peer.IsValid() {
		c.seat = c.svc.bound.Join(peer)
		l.uncounted(c.seat)
		if c.seat != 0 {
			c.svc.bound.Depart()
		}
	}
}

// exit counts a connection out that enter or join has counted in.
func (l *Loop) exit(c *Conn) {
	if c.seat == 0 {
		return
	}
	l.bound.Leave(c.seat)
	if c.has(away) {
		l.bound.Settle()
	}
	c.seat = 0
}
