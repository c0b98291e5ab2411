package eventloop

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// Mover is a Handler whose connections can go on in another process.
type Mover interface {
	Handler

	// Kind names what Freeze writes for a connection, with its version.
	Kind(c *Conn) string

	// Freeze appends to b what the connection's State holds, and returns the
	// descriptors that belong to it. State and descriptors stay as they are: the
	// connection may yet stay.
	Freeze(c *Conn, b []byte) (state []byte, fds []int)

	// Thaw is Opened for a connection that comes from another process: it sets
	// State and timeout from what Freeze wrote there, in memory that it must not
	// keep. An error refuses the connection, as a kind must be that it doesn't know. The
	// descriptors are the handler's if there is none. Of a pair, the outgoing connection is
	// thawed first; if the other is refused it is closed.
	Thaw(c *Conn, kind string, state []byte, fds []int) error
}

// Parcel is a connection between two loops, all that it consists of.
type Parcel struct {
	FD    int
	Facts uint32 // what travels of its state, by number: see facts
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

	Age    time.Duration // Conn.Age; of a partner it isn't known
	Served uint32        // Conn.Served; likewise

	// Of a connection that is joined to another: Conn.Passing, Conn.Passed, and, in the
	// client's parcel, the other one, which has no Partner.
	Passing int64
	Passed  uint64
	Partner *Parcel
}

// AppendFDs appends the parcel's descriptors, the socket first, and its partner's.
func (p *Parcel) AppendFDs(fds []int) []int {
	fds = append(fds, p.FD)
	if p.File >= 0 {
		fds = append(fds, p.File)
	}
	fds = append(fds, p.Files...)
	if p.Partner != nil {
		fds = p.Partner.AppendFDs(fds)
	}
	return fds
}

// size returns its bytes.
func (p *Parcel) size() int {
	n := len(p.In) + len(p.Out) + len(p.Tail) + len(p.State)
	if p.Partner != nil {
		n += p.Partner.size()
	}
	return n
}

// FDs returns the parcel's descriptors, the socket first.
func (p *Parcel) FDs() []int { return p.AppendFDs(nil) }

// countFDs returns their number.
func (p *Parcel) countFDs() int {
	n := 1 + len(p.Files)
	if p.File >= 0 {
		n++
	}
	if p.Partner != nil {
		n += p.Partner.countFDs()
	}
	return n
}

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
		for c, next := l.classes[i].head, (*Conn)(nil); c != nil; c = next {
			next = c.next
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
	if l.moving {
		l.countStayed()
	}
	l.moving = false
	l.departing = nil
	l.closeIdle()
}

// Leaving tells a handler to end the connection at the next good moment: its
// generation ends, and nobody takes it over.
func (c *Conn) Leaving() bool {
	l := c.svc.loop
	return l.draining && (!l.moving || c.has(stays))
}

// leave has Depart give a connection out, unless it has to stay for now.
func (l *Loop) leave(c *Conn) {
	switch {
	case c.has(busy), c.has(outgoing) && !c.idles():
		return // SetBusy sees to it, or Part; or it goes with its partner
	case c.svc.stays:
		l.stay(c)
		return
	}
	if len(l.departing) == 0 && l.nudge != nil {
		l.nudge()
	}
	l.departing = append(l.departing, mark{c, c.gen})
}

// stay has a connection end here. One to a server that is idle has no reason to.
func (l *Loop) stay(c *Conn) {
	if !c.has(stays|outgoing) && !c.svc.stays {
		l.count.Stayed++
	}
	c.flags |= stays
	if c.idles() && !c.has(away) {
		l.closeQuietly(c)
	}
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
		if !l.departs(m) {
			l.departing = l.departing[1:]
			continue
		}
		d := Departure{Service: c.svc, at: m}
		if !l.packAll(c, &d.Parcel) {
			continue // closed, and found so in the next pass
		}
		if max -= d.countFDs(); max < 0 && len(out) > 0 {
			break
		}
		n := d.size()
		l.departing = l.departing[1:]
		if n > maxParcel {
			l.stay(c)
			continue
		}
		size += n
		l.suspend(c)
		if c.tie != nil {
			l.suspend(c.tie.peer)
		}
		out = append(out, d)
	}
	if len(l.departing) == 0 {
		l.departing = nil
	}
	return out
}

// departs tells whether a connection that was to depart still is.
func (l *Loop) departs(m mark) bool {
	c := m.c
	if c.gen != m.gen || !c.has(open) || c.has(away|busy) || c.has(outgoing) && !c.idles() {
		return false
	}
	_, ok := c.svc.handler.(Mover)
	if ok && c.tie != nil {
		_, ok = c.tie.peer.svc.handler.(Mover)
	}
	if !ok {
		l.stay(c)
	}
	return ok
}

// packAll writes a connection down, and its partner if it has one.
func (l *Loop) packAll(c *Conn, p *Parcel) (ok bool) {
	if c.tie == nil {
		return l.pack(c, p)
	}
	var partner Parcel
	// The partner's first: its pack may end both.
	if u := c.tie.peer; !l.pack(u, &partner) || !c.has(open) || !l.pack(c, p) || !u.has(open) {
		return false
	}
	p.Partner = &partner
	return true
}

// pack writes a connection down, or closes it if its handler panics.
func (l *Loop) pack(c *Conn, p *Parcel) (ok bool) {
	defer l.guard(c)
	m := c.svc.handler.(Mover)
	l.unpipe(c)
	*p = Parcel{
		FD: int(c.fd), Facts: c.wireFacts(), In: c.in, File: -1, Kind: m.Kind(c),
		Passing: c.Passing(), Passed: c.Passed(), Age: c.Age(), Served: c.served,
	}
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
	if c.seat != 0 {
		l.bound.Depart()
	}
	c.flags = c.flags&^unheard | away
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
	return d.at.c.gen == d.at.gen && d.at.c.has(open) && d.at.c.has(away)
}

// Departed lets go of a connection that has another owner now.
func (l *Loop) Departed(d *Departure) {
	if !d.here() {
		return
	}
	l.endAll(d.at.c, wayGiven)
}

// Discard lets go of a connection that Arrive made, in place of Begin: it is the old
// owner's still.
func (l *Loop) Discard(c *Conn) { l.endAll(c, wayClosed) }

// endAll ends a connection that is away, and its partner.
func (l *Loop) endAll(c *Conn, how way) {
	for _, c := range [...]*Conn{c, c.Partner()} {
		if c != nil && c.has(open) {
			func() {
				defer l.guard(c)
				l.end(c, how)
			}()
		}
	}
}

// Return goes on with a connection that nobody took. With again, Depart will
// give it out once more; else it stays to its end.
func (l *Loop) Return(d *Departure, again bool) {
	if !d.here() {
		return
	}
	c := d.at.c
	l.revive(c)
	switch {
	case !c.has(open):
	case again && l.moving:
		l.leave(c)
	default:
		l.stay(c)
	}
}

// ErrFull is returned by Arrive when the loop has as many connections as it may.
var ErrFull = errors.New("the connection limit is reached")

// Arrive makes the loop a connection's next owner: its descriptors are the loop's
// if there is no error. Nothing is read or written before Begin, and until then
// the old owner can have it back by this process's death.
func (l *Loop) Arrive(s *Service, p *Parcel) (*Conn, error) {
	if err := l.mayArrive(s, p); err != nil {
		return nil, err
	}
	c := l.receive(s, p)
	if p.Partner != nil {
		if s.upstreams == nil {
			l.forget(c)
			return nil, errors.New("the service has no connections to servers")
		}
		if err := l.mayArrive(s.upstreams, p.Partner); err != nil {
			l.forget(c)
			return nil, err
		}
		u := l.receive(s.upstreams, p.Partner)
		l.Join(c, u)
		c.tie.left, c.tie.passed = p.Passing, p.Passed
		u.tie.left, u.tie.passed = p.Partner.Passing, p.Partner.Passed
	}
	if err := l.thawAll(c, p); err != nil {
		u := c.Partner()
		l.part(c)
		l.forget(c)
		if u != nil {
			l.forget(u)
		}
		return nil, err
	}
	if l.rest == 0 && l.full() && !l.admits() {
		l.noRoom(false)
	}
	return c, nil
}

// ErrMemory is returned by Arrive when the loop holds as much as it may.
var ErrMemory = errors.New("this worker has no memory left for it")

// mayArrive tells why a connection can't come here.
func (l *Loop) mayArrive(s *Service, p *Parcel) error {
	_, ok := s.handler.(Mover)
	switch {
	case !ok:
		return errors.New("the service does not know connections of kind " + p.Kind)
	case l.full() && stateOf(p.Facts)&outgoing == 0:
		return ErrFull
	case p.size() > max(0, l.mem.ceiling-l.mem.lent):
		return ErrMemory
	case len(p.Tail) > 0 && p.File >= 0:
		return errors.New("both bytes and a file are behind its output")
	case len(p.In) > l.maxMessage:
		return errors.New("its input is more than this worker holds")
	}
	return nil
}

// receive opens a connection with what waits in it.
func (l *Loop) receive(s *Service, p *Parcel) *Conn {
	c := l.open(int32(p.FD), s, away|foreign|stateOf(p.Facts))
	l.budget.take(1)
	l.join(c)
	if len(p.In) > 0 {
		c.in = append(l.buffers.get(len(p.In)), p.In...)
	}
	if len(p.Out)+len(p.Tail) > 0 || p.File >= 0 {
		o := l.output(c)
		o.buf = append(l.room(o, len(p.Out)), p.Out...)
		switch {
		case len(p.Tail) > 0:
			o.tail = append([]byte(nil), p.Tail...)
			o.owned = cap(o.tail)
			l.mem.lent += o.owned
		case p.File >= 0:
			o.fd, o.off, o.left = int32(p.File), p.Off, p.Left
			l.budget.take(1)
		}
	}
	c.born -= uint32(p.Age >> ageShift)
	c.served = p.Served
	if p.Due > 0 {
		c.deadline = l.now + int64(p.Due)
	}
	return c
}

// thawAll has a connection's handler make its state, and its partner's before.
func (l *Loop) thawAll(c *Conn, p *Parcel) error {
	u := c.Partner()
	if u != nil {
		if err := l.thaw(u, p.Partner); err != nil {
			return err
		}
	}
	err := l.thaw(c, p)
	if err != nil && u != nil {
		func() {
			defer l.survive()
			u.svc.handler.Closed(u)
		}()
	}
	return err
}

// survive is deferred around a call whose panic costs nothing more.
func (l *Loop) survive() {
	if v := recover(); v != nil {
		l.tellPanic(v)
	}
}

// thaw calls a handler that makes a connection's state. Its panic is an error: the
// descriptors are not the loop's yet, to be closed with the connection.
func (l *Loop) thaw(c *Conn, p *Parcel) (err error) {
	defer func() {
		if v := recover(); v != nil {
			l.tellPanic(v)
			err = errors.New("the service panicked")
		}
	}()
	return c.svc.handler.(Mover).Thaw(c, p.Kind, p.State, p.Files)
}

// Begin serves a connection that Arrive made, once the old owner has been told.
func (l *Loop) Begin(c *Conn) {
	if !c.has(open) {
		return // cut meanwhile
	}
	if c.has(outgoing) {
		l.count.UpstreamKept++
	} else {
		l.count.TakenOver++
	}
	l.revive(c)
	if l.moving && c.has(open) {
		l.leave(c) // this loop drains too by now
	}
}

// revive sets a suspended connection going again, and its partner. Both are here before
// either moves.
func (l *Loop) revive(c *Conn) {
	both := [...]*Conn{c, c.Partner()}
	for _, c := range both {
		if c != nil {
			l.wake(c)
		}
	}
	for _, c := range both {
		if c != nil && c.has(open) {
			l.again(c)
		}
	}
}

func (l *Loop) wake(c *Conn) {
	defer l.guard(c)
	if c.seat != 0 {
		l.bound.Settle()
	}
	c.flags &^= away
	id := c.want
	switch {
	case c.has(lingering):
		id = l.lingerClass
	case c.has(blocked) && !c.has(steady):
		id = c.svc.writeTimeout
	}
	l.armUntil(c, id, c.deadline)
	l.register(c)
}
