package eventloop

import "golang.org/x/sys/unix"

// chunk is how many connections one allocation of the table holds: so many that Go allocates them by pages. Its size
// classes for less would waste 16 bytes for each connection.
const chunk = 512

// table holds the connections by descriptor. It grows by chunks that never
// move, so a *Conn stays valid, and memory follows the highest descriptor.
type table struct {
	chunks []*[chunk]Conn
}

// at returns the place of fd, which may be unused.
func (t *table) at(fd int32) *Conn {
	i := int(fd) / chunk
	for i >= len(t.chunks) {
		t.chunks = append(t.chunks, nil)
	}
	if t.chunks[i] == nil {
		t.chunks[i] = new([chunk]Conn)
	}
	return &t.chunks[i][int(fd)%chunk]
}

// find returns the connection that an event was registered for, or nil when the
// descriptor has been closed or used again since.
func (t *table) find(fd int32, gen uint32) *Conn {
	i := int(fd) / chunk
	if i >= len(t.chunks) || t.chunks[i] == nil {
		return nil
	}
	if c := &t.chunks[i][int(fd)%chunk]; c.gen == gen && c.here() {
		return c
	}
	return nil
}

// each calls f for every open connection. f may close it.
func (t *table) each(f func(*Conn)) {
	for _, ch := range t.chunks {
		if ch == nil {
			continue
		}
		for i := range ch {
			if ch[i].has(open) {
				f(&ch[i])
			}
		}
	}
}

// open makes a connection of a descriptor, an accepted one unless it is outgoing, with its life and
// what is known of it.
func (l *Loop) open(fd int32, s *Service, state flag) *Conn {
	c := l.table.at(fd)
	gen := (c.gen + 1) &^ special
	*c = Conn{fd: fd, gen: gen, svc: s, flags: state, born: l.ticks()}
	l.live++
	if c.has(outgoing) {
		l.count.UpstreamOpen++
	} else {
		l.count.Open++
	}
	l.emptied = false
	return c
}

// unopen undoes open, for a connection whose descriptor is not the loop's yet.
func (l *Loop) unopen(c *Conn) {
	l.freeSeal(c)
	l.exit(c)
	l.freeInput(c)
	l.disarm(c)
	l.budget.give(1)
	if c.out != nil {
		if c.out.fd >= 0 {
			l.budget.give(1)
		}
		c.out.fd = -1 // not ours either
		l.freeOutput(c)
	}
	l.live--
	if c.has(outgoing) {
		l.count.UpstreamOpen--
	} else {
		l.count.Open--
	}
	*c = Conn{gen: c.gen}
}

// way is how a connection leaves its loop.
type way uint8

const (
	wayClosed way = iota
	wayCut        // before it was done
	wayGiven      // another loop has it
)

// closed is a connection that has ended, until its descriptor is closed.
type closed struct {
	c     *Conn
	cause unix.Errno // Cause
}

// end ends a connection, for a reason or none. It calls no handler, so it may be called from
// anywhere: report does that, and reap closes the descriptor.
func (l *Loop) end(c *Conn, how way, cause unix.Errno) {
	if c.has(dialing) {
		c.flags |= missed
	}
	c.flags &^= open
	l.closing = append(l.closing, closed{c, cause})
	l.exit(c)
	l.disarm(c)
	l.freeInput(c)
	l.freeSeal(c)
	if c.out != nil {
		l.freeOutput(c)
	}
	l.live--
	l.countEnd(c, how)
}

// report calls Closed for each connection that has ended and was not reported, those among them that a Closed
// ends. It runs where no connection is driven, and before another one is. What is bounded by the descriptors
// that there are, for none is closed before all are reported.
func (l *Loop) report() {
	for l.reported < len(l.closing) {
		e := l.closing[l.reported]
		l.reported++
		l.reportOne(e)
	}
}

func (l *Loop) reportOne(e closed) {
	c := e.c
	l.cause = e.cause
	defer func() {
		l.survive(recover())
		l.cause, c.State = 0, nil
		l.Part(c) // last: Closed can still ask for its partner
	}()
	if c.has(outgoing) || !c.has(missed) { // else its handler has never heard of it
		c.svc.handler.Closed(c)
	}
}

func (l *Loop) countEnd(c *Conn, how way) {
	if c.has(outgoing) {
		l.count.UpstreamOpen--
		return
	}
	l.count.Open--
	switch {
	case how == wayGiven:
		l.count.HandedOver++
	case how == wayCut:
		l.count.Closed++
		l.count.Cut++
	default:
		l.count.Closed++
		if l.draining {
			l.count.Finished++
		}
	}
}

// Cause tells a handler, inside Closed, which error ended the connection; 0 if none
// did.
func (l *Loop) Cause() unix.Errno { return l.cause }

// reap reports the connections that have ended since it last ran, and closes their descriptors.
// It runs while none is driven: an event of this turn that still means one of them has another
// generation than whoever gets the descriptor next. And it runs after each connection, for a close
// is work too: more than all else that is done for one whose peer has closed.
func (l *Loop) reap() {
	if l.owed > 0 {
		n := l.owed
		l.owed = 0
		l.yieldPlaces(n)
	}
	if len(l.closing) == 0 {
		return
	}
	l.report()
	l.done += len(l.closing) * closeWork
	for _, e := range l.closing {
		fd := e.c.fd
		*e.c = Conn{gen: e.c.gen}
		closeSocket(fd)
	}
	l.budget.give(len(l.closing))
	clear(l.closing)
	l.closing, l.reported = l.closing[:0], 0
}
