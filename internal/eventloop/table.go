package eventloop

import "golang.org/x/sys/unix"

// chunk is how many connections one allocation of the table holds.
const chunk = 64

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
	if c := &t.chunks[i][int(fd)%chunk]; c.gen == gen && c.flags&(open|away) == open {
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

// open makes a connection of an accepted descriptor.
func (l *Loop) open(fd int32, s *Service) *Conn {
	c := l.table.at(fd)
	gen := (c.gen + 1) &^ special
	*c = Conn{fd: fd, gen: gen, svc: s, flags: open | readable}
	l.count.Open++
	l.live++
	l.emptied = false
	return c
}

// way is how a connection leaves its loop.
type way uint8

const (
	wayClosed way = iota
	wayCut        // before it was done
	wayGiven      // another loop has it
)

// end closes a connection, but for its descriptor, which reap closes.
func (l *Loop) end(c *Conn, how way) {
	c.flags &^= open
	l.closing = append(l.closing, c)
	l.disarm(c)
	l.drop(c)
	if c.out != nil {
		l.release(c)
	}
	l.live--
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
	c.svc.handler.Closed(c) // last: it may panic
	c.State = nil
}

// reap closes the descriptors of the connections that were closed in this turn.
// It runs when no event of the turn is left, so that the kernel can't hand out a
// descriptor that a waiting event still means.
func (l *Loop) reap() {
	for i, c := range l.closing {
		l.closing[i] = nil
		fd := c.fd
		*c = Conn{gen: c.gen}
		_ = unix.Close(int(fd))
	}
	l.closing = l.closing[:0]
}
