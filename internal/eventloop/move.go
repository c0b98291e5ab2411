package eventloop

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// Mover is a Handler whose connections can go on in another process.
type Mover interface {
	Handler

	// Kind names what Freeze writes, with its version.
	Kind() string

	// Freeze appends to b what the connection's State holds, and returns the
	// descriptors that belong to it. State and descriptors stay as they are: the
	// connection may yet stay.
	Freeze(c *Conn, b []byte) (state []byte, fds []int)

	// Thaw is Opened for a connection that comes from another process: it sets
	// State and timeout from what Freeze wrote there, in memory that it must not
	// keep. An error refuses the connection. The descriptors are the handler's
	// if there is none.
	Thaw(c *Conn, state []byte, fds []int) error
}

// Parcel is a connection between two loops, all that it consists of.
type Parcel struct {
	FD    int
	Facts uint32 // those of carried that are true
	In    []byte // presented and not consumed
	Out   []byte // queued and not written
	Tail  []byte // queued behind Out by WriteStatic

	File      int   // queued behind Out by SendFile, or -1
	Off, Left int64 // what of it, in bytes

	// Due is how long until the connection's timeout; 0 if it has none.
	Due time.Duration

	Kind  string // Mover.Kind
	State []byte // Mover.Freeze
	Files []int  // Mover.Freeze
}

// AppendFDs appends the parcel's descriptors, the socket first.
func (p *Parcel) AppendFDs(fds []int) []int {
	fds = append(fds, p.FD)
	if p.File >= 0 {
		fds = append(fds, p.File)
	}
	return append(fds, p.Files...)
}

// FDs returns the parcel's descriptors, the socket first.
func (p *Parcel) FDs() []int { return p.AppendFDs(nil) }

// countFDs returns their number.
func (p *Parcel) countFDs() int {
	n := 1 + len(p.Files)
	if p.File >= 0 {
		n++
	}
	return n
}

// carried are the facts that are as true in another loop.
const carried = readable | hangup | gone | watchOut | paused | tailDone | eof | ended |
	finishing | linger | lingering | blocked

// Departure is a connection that has been taken out of its loop, to be offered
// to another. The loop keeps it, untouched, until Departed or Return.
type Departure struct {
	Service *Service
	Parcel
	at mark
}

// DrainTo is Drain for connections that another process is to take: Depart gives
// them out, and Leaving stays false until Stay says that nobody will. leaving is
// called, on the loop's goroutine, whenever Depart has something to give again.
func (l *Loop) DrainTo(leaving func()) {
	if l.moving {
		return
	}
	l.draining, l.moving, l.nudge = true, true, leaving
	// In the order of their deadlines, so that the next loop can sort them in
	// without a search.
	for i := range l.classes {
		for c := l.classes[i].head; c != nil; c = c.next {
			l.leave(c)
		}
	}
	l.table.each(func(c *Conn) {
		if c.class == 0 && !c.has(away) { // Return and Begin see to the others
			l.leave(c)
		}
	})
}

// Stay ends DrainTo's hope: connections that are here end at the next good moment,
// unless DrainTo is called again.
func (l *Loop) Stay() {
	l.moving = false
	l.departing = nil
}

// Leaving tells a handler to end the connection at the next good moment: its
// generation ends, and nobody takes it over.
func (c *Conn) Leaving() bool {
	l := c.svc.loop
	return l.draining && (!l.moving || c.has(stays))
}

func (l *Loop) leave(c *Conn) {
	if c.svc.stays {
		c.flags |= stays
		return
	}
	if len(l.departing) == 0 && l.nudge != nil {
		l.nudge()
	}
	l.departing = append(l.departing, mark{c, c.gen})
}

// maxDepart bounds the bytes that one Depart hands out, but for the last parcel's;
// maxParcel those of one connection that may move.
const (
	maxDepart = 1 << 20
	maxParcel = 8 << 20
)

// Depart takes up to max descriptors' worth of connections out of a draining
// loop. What Parcel's slices refer to is not touched until the answer.
func (l *Loop) Depart(max int) []Departure {
	out := make([]Departure, 0, min(max, len(l.departing)))
	size := 0
	for len(l.departing) > 0 && size < maxDepart {
		m := l.departing[0]
		c := m.c
		mover, ok := Mover(nil), false
		if c.gen == m.gen && c.has(open) && !c.has(away) {
			if mover, ok = c.svc.handler.(Mover); !ok {
				c.flags |= stays
			}
		}
		if !ok {
			l.departing = l.departing[1:]
			continue
		}
		d := Departure{Service: c.svc, at: m}
		if !l.pack(c, mover, &d.Parcel) {
			continue // closed, and found so in the next pass
		}
		if max -= d.countFDs(); max < 0 && len(out) > 0 {
			break
		}
		n := len(d.In) + len(d.Out) + len(d.Tail) + len(d.State)
		l.departing = l.departing[1:]
		if n > maxParcel {
			c.flags |= stays
			continue
		}
		size += n
		l.suspend(c)
		out = append(out, d)
	}
	if len(l.departing) == 0 {
		l.departing = nil
	}
	return out
}

// pack writes a connection down, or closes it if its handler panics.
func (l *Loop) pack(c *Conn, m Mover, p *Parcel) (ok bool) {
	defer l.guard(c)
	*p = Parcel{FD: int(c.fd), Facts: uint32(c.flags & carried), In: c.in, File: -1, Kind: m.Kind()}
	if o := c.out; o != nil {
		p.Out, p.Tail = o.buf[o.done:], o.tail
		if o.fd >= 0 {
			p.File, p.Off, p.Left = int(o.fd), o.off, o.left
		}
	}
	if c.class != 0 {
		p.Due = max(time.Duration(c.deadline-l.now), 1)
	}
	p.State, p.Files = m.Freeze(c, nil)
	return true
}

// suspend stops all that could move a connection. Its epoll registration belongs
// to the open file description, which lives on elsewhere: it is removed by name.
func (l *Loop) suspend(c *Conn) {
	c.flags |= away
	if c.has(registered) {
		c.flags &^= registered
		_ = l.control(unix.EPOLL_CTL_DEL, c.fd, 0, 0)
	}
	if c.class == 0 {
		c.deadline = 0
	}
	l.disarm(c)
}

// here tells whether a departure's connection is still this loop's to decide on.
func (d *Departure) here() bool {
	return d.at.c.gen == d.at.gen && d.at.c.flags&(open|away) == open|away
}

// Departed lets go of a connection that has another owner now.
func (l *Loop) Departed(d *Departure) {
	if !d.here() {
		return
	}
	c := d.at.c
	defer l.guard(c)
	l.end(c, wayGiven)
}

// Return goes on with a connection that nobody took. With again, Depart will
// give it out once more; else it stays to its end.
func (l *Loop) Return(d *Departure, again bool) {
	if !d.here() {
		return
	}
	c := d.at.c
	defer l.guard(c)
	if again && l.moving {
		l.leave(c)
	} else {
		c.flags |= stays
	}
	l.revive(c)
}

// ErrFull is returned by Arrive when the loop has as many connections as it may.
var ErrFull = errors.New("the connection limit is reached")

// Arrive makes the loop a connection's next owner: its descriptors are the loop's
// if there is no error. Nothing is read or written before Begin, and until then
// the old owner can have it back by this process's death.
func (l *Loop) Arrive(s *Service, p *Parcel) (*Conn, error) {
	m, ok := s.handler.(Mover)
	switch {
	case !ok || m.Kind() != p.Kind:
		return nil, errors.New("the service does not know connections of kind " + p.Kind)
	case l.full():
		return nil, ErrFull
	case len(p.Tail) > 0 && p.File >= 0:
		return nil, errors.New("both bytes and a file are behind its output")
	case len(p.In) > l.maxMessage:
		return nil, errors.New("its input is more than this worker holds")
	}
	c := l.open(int32(p.FD), s)
	c.flags = open | away | flag(p.Facts)&carried
	if len(p.In) > 0 {
		c.in = append(l.buffers.get(len(p.In)), p.In...)
	}
	if err := l.thaw(c, m, p); err != nil {
		l.drop(c)
		l.disarm(c)
		l.live--
		l.count.Open--
		*c = Conn{gen: c.gen}
		return nil, err
	}
	if len(p.Out)+len(p.Tail) > 0 || p.File >= 0 {
		o := l.output(c)
		o.buf = append(l.room(o, len(p.Out)), p.Out...)
		switch {
		case len(p.Tail) > 0:
			o.tail = append([]byte(nil), p.Tail...)
		case p.File >= 0:
			o.fd, o.off, o.left = int32(p.File), p.Off, p.Left
		}
	}
	if p.Due > 0 {
		c.deadline = l.now + int64(p.Due)
	}
	if l.full() && l.rest == 0 {
		l.count.AcceptPaused++
		l.pause(restFull)
	}
	return c, nil
}

// thaw calls a handler that makes a connection's state. Its panic is an error: the
// descriptors are not the loop's yet, to be closed with the connection.
func (l *Loop) thaw(c *Conn, m Mover, p *Parcel) (err error) {
	defer func() {
		if v := recover(); v != nil {
			l.tellPanic(v)
			err = errors.New("the service panicked")
		}
	}()
	return m.Thaw(c, p.State, p.Files)
}

// Begin serves a connection that Arrive made, once the old owner has been told.
func (l *Loop) Begin(c *Conn) {
	if !c.has(open) {
		return // cut meanwhile
	}
	defer l.guard(c)
	l.count.TakenOver++
	if l.moving {
		l.leave(c) // this loop drains too by now
	}
	l.revive(c)
}

// revive sets a suspended connection going again.
func (l *Loop) revive(c *Conn) {
	c.flags &^= away
	id := c.want
	switch {
	case c.has(lingering):
		id = l.lingerClass
	case c.has(blocked):
		id = c.svc.writeTimeout
	}
	l.armUntil(c, id, c.deadline)
	l.register(c)
	l.drive(c)
}
