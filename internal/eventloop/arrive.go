package eventloop

import (
	"errors"
	"strconv"
)

// ErrFull is returned by Arrive when the loop has as many connections as it may.
var ErrFull = errors.New("the connection limit is reached")

// Arrive makes the loop a connection's next owner: its descriptors are the loop's
// if there is no error. Nothing is read or written before Begin, and until then
// the old owner can have it back by this process's death.
func (l *Loop) Arrive(s *Service, p *Parcel) (*Conn, error) {
	if err := l.mayArrive(s, p); err != nil {
		return nil, err
	}
	all, err := l.unpackAll(s, p)
	if err == nil {
		err = l.thawAll(all)
	}
	if err != nil {
		for _, a := range all {
			l.Part(a.c)
			l.unopen(a.c)
		}
		return nil, err
	}
	c := all[0].c
	if l.rest == 0 && l.full() && !l.admits() {
		l.noRoom(false)
	}
	return c, nil
}

// ErrMemory is returned by Arrive when the loop holds as much as it may.
var ErrMemory = errors.New("this worker has no memory left for it")

// mayArrive says why a connection can't come here.
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
	case p.Transport != 0 && s.transports == nil:
		return errors.New("the service has no transport of kind " + strconv.Itoa(int(p.Transport)))
	case p.Transport == 0 && s.transports != nil && !s.either:
		return errors.New("connections are encrypted here, and it is not")
	case p.Transport == 0 && len(p.Keys)+len(p.Cipher)+len(p.Opened)+len(p.Sealed) > 0:
		return errors.New("it has sealed bytes and no transport")
	case len(p.In) > l.maxMessage || len(p.Opened) > MaxRecord || len(p.Cipher) > maxSealed+l.maxMessage:
		return errors.New("its input is more than this worker holds")
	}
	return nil
}

// arrival is a connection that is being unpacked.
type arrival struct {
	c *Conn
	p *Parcel
}

// unpackAll opens the connections of a parcel, and returns those that it has opened.
func (l *Loop) unpackAll(s *Service, p *Parcel) (all []arrival, err error) {
	all = append(all, arrival{l.unpack(s, p), p})
	for q := p.Partner; q != nil; q = q.Partner {
		of := s
		if stateOf(q.Facts)&outgoing != 0 || p.Partner.Partner == nil {
			of = s.upstreams
		}
		if of == nil {
			return all, errors.New("the service has no connections to servers")
		}
		if err := l.mayArrive(of, q); err != nil {
			return all, err
		}
		all = append(all, arrival{l.unpack(of, q), q})
		l.Join(all[0].c, all[len(all)-1].c)
	}
	for i, a := range all {
		if len(all) == 1 {
			break
		}
		a.c.tie.passed = a.p.Passed
		to := a.p.PassTo
		if len(all) == 2 {
			to = 1 - i // it is the other
		}
		switch {
		case a.p.Passing == 0:
		case to < 0 || to >= len(all) || to == i:
			return all, errors.New("it passes bytes to nobody")
		default:
			a.c.tie.to, a.c.tie.left = all[to].c, a.p.Passing
		}
	}
	return all, nil
}

// unpack opens a connection with what waits in it.
func (l *Loop) unpack(s *Service, p *Parcel) *Conn {
	c := l.open(int32(p.FD), s, away|foreign|stateOf(p.Facts))
	l.budget.take(1)
	l.join(c)
	if len(p.In) > 0 {
		c.in = append(l.buffers.get(len(p.In)), p.In...)
	}
	if len(p.Sealed)+len(p.Out)+len(p.Tail) > 0 || p.File >= 0 {
		o := l.output(c)
		if len(p.Sealed) > 0 {
			l.addSealed(o, append(l.sealedRoom(o, len(p.Sealed)), p.Sealed...))
		}
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

// thawAll has the handlers make the connections' states, the first one's last. If that fails, those that were
// made are closed.
func (l *Loop) thawAll(all []arrival) error {
	for i := len(all) - 1; i >= 0; i-- {
		err := l.thaw(all[i].c, all[i].p)
		if err == nil {
			continue
		}
		for _, a := range all[i+1:] {
			func() {
				defer func() { l.survive(recover()) }()
				a.c.svc.handler.Closed(a.c)
			}()
		}
		return err
	}
	return nil
}

// thaw calls a handler that makes a connection's state. Its panic is an error: the
// descriptors are not the loop's yet, to be closed with the connection.
func (l *Loop) thaw(c *Conn, p *Parcel) (err error) {
	defer func() {
		if l.survive(recover()) {
			err = errors.New("the service panicked")
		}
	}()
	if p.Transport != 0 {
		if err := l.thawSeal(c, p); err != nil {
			return err
		}
	}
	return c.svc.handler.(Mover).Thaw(c, p.Kind, p.State, p.Files)
}

// Begin serves a connection that Arrive made, once the old owner has been told.
func (l *Loop) Begin(c *Conn) {
	if !c.has(open) {
		return // cut meanwhile
	}
	if c.has(outgoing) {
		l.count.UpstreamKept++
	}
	for u := range c.together {
		if !u.has(outgoing) {
			l.count.TakenOver++
		}
	}
	l.revive(c)
	if l.moving && c.has(open) {
		l.leave(c) // this loop drains too by now
	}
}

// revive sets a suspended connection going again, and those that travel with it. All are here before
// one moves.
func (l *Loop) revive(c *Conn) {
	for u := range c.together {
		l.wake(u)
	}
	for u := range c.together {
		if u.has(open) {
			l.again(u)
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
