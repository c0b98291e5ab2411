package eventloop

import (
	"fmt"
	"math/bits"
	"unsafe"
)

// check reports whether what must hold between two turns holds. It may be called
// wherever no connection is being driven, such as in a function given to Post.
func (l *Loop) check() error {
	lent := make(map[*byte]string)
	lend := func(p []byte, who string) error {
		if cap(p) == 0 {
			return nil
		}
		at := unsafe.SliceData(p)
		if other, taken := lent[at]; taken {
			return fmt.Errorf("one buffer is both %s and %s", other, who)
		}
		lent[at] = who
		return nil
	}
	kept := 0
	for i, spare := range l.buffers.idle {
		for _, p := range spare.idle {
			if len(p) != 0 || cap(p) != bufferSize(i) {
				return fmt.Errorf("idle buffer of %d: length %d, capacity %d", bufferSize(i), len(p), cap(p))
			}
			if err := lend(p, "idle"); err != nil {
				return err
			}
			kept += cap(p)
		}
	}
	for _, o := range l.outputs.idle {
		if o.fd >= 0 || o.buf != nil || o.sealed != nil || o.pending() != 0 || o.tailed() || o.waiter.c != nil || o.owned != 0 {
			return fmt.Errorf("idle output holds %+v", *o)
		}
	}
	if err := l.checkMemory(kept); err != nil {
		return err
	}
	departing := make(map[*Conn]bool)
	for _, m := range l.departing {
		if m.c.gen != m.gen || !m.c.has(open) {
			continue
		}
		if departing[m.c] || m.c.has(away) {
			return fmt.Errorf("fd %d is to depart twice", m.c.fd)
		}
		departing[m.c] = true
	}
	if l.moving && !l.draining || len(l.departing) > 0 && !l.moving {
		return fmt.Errorf("%d are to depart, moving is %v, draining %v", len(l.departing), l.moving, l.draining)
	}
	waiting, err := l.checkLists()
	if err != nil {
		return err
	}
	ready := make(map[*Conn]bool)
	for _, m := range append(l.polite.marks[l.polite.head:len(l.polite.marks):len(l.polite.marks)], l.greedy.marks[l.greedy.head:]...) {
		if m.c.has(open) && m.c.gen == m.gen {
			if ready[m.c] {
				return fmt.Errorf("fd %d is on the ready list twice", m.c.fd)
			}
			ready[m.c] = true
		}
	}
	live, clients := 0, 0
	for i, ch := range l.table.chunks {
		for j := 0; ch != nil && j < chunk; j++ {
			c := &ch[j]
			if !c.has(open) {
				if c.class != 0 || c.prev != nil || c.next != nil || c.in != nil || c.out != nil || c.tie != nil {
					return fmt.Errorf("closed connection in place %d still holds %+v", i*chunk+j, *c)
				}
				continue
			}
			live++
			if !c.has(outgoing) {
				clients++
			}
			if int(c.fd) != i*chunk+j {
				return fmt.Errorf("fd %d is in place %d", c.fd, i*chunk+j)
			}
			if err := c.check(waiting[c], ready[c]); err != nil {
				return fmt.Errorf("fd %d, flags %b: %w", c.fd, c.flags, err)
			}
			if err := lend(c.in, fmt.Sprintf("input of %d", c.fd)); err != nil {
				return err
			}
			if c.out != nil {
				if err := lend(c.out.buf, fmt.Sprintf("output of %d", c.fd)); err != nil {
					return err
				}
			}
		}
	}
	if live != l.live || uint64(clients) != l.count.Open || uint64(live-clients) != l.count.UpstreamOpen {
		return fmt.Errorf("%d connections are open, %d of clients; live is %d, Open is %d, UpstreamOpen is %d",
			live, clients, l.live, l.count.Open, l.count.UpstreamOpen)
	}
	for i, e := range l.closing {
		switch {
		case e.c.has(open):
			return fmt.Errorf("fd %d is open and to be closed", e.c.fd)
		case i >= l.reported:
			return fmt.Errorf("fd %d has ended and is not reported", e.c.fd)
		}
	}
	for _, ln := range l.listeners {
		if ln.watched && l.rest != 0 {
			return fmt.Errorf("listener %d is watched in a pause", ln.fd)
		}
		if ln.held && (ln.mutex == nil || !ln.watched) {
			return fmt.Errorf("listener %d holds a mutex and is not watched", ln.fd)
		}
	}
	if l.reserve < 0 && l.rest == 0 {
		return fmt.Errorf("accepts without a descriptor in reserve")
	}
	// The connection that a batch ends with may be closed already, so the pause
	// may outlast its reason, but never the other way round.
	if l.full() && l.rest == 0 {
		return fmt.Errorf("accepts with %d of %d connections", l.live, l.limit)
	}
	return nil
}

// checkLists returns the connections on the lists of the timeout classes.
func (l *Loop) checkLists() (map[*Conn]bool, error) {
	waiting := make(map[*Conn]bool)
	for i := range l.classes {
		t := &l.classes[i]
		err := t.conns.check(func(n *node) error {
			c := connOf(n)
			switch {
			case waiting[c]:
				return fmt.Errorf("fd %d is on two lists, or a list is a circle", c.fd)
			case int(c.class) != i || i == 0:
				return fmt.Errorf("fd %d believes to be in class %d", c.fd, c.class)
			case !c.has(open):
				return fmt.Errorf("fd %d is closed", c.fd)
			}
			waiting[c] = true
			return nil
		})
		if err == nil {
			err = t.timers.check(func(n *node) error {
				if timer := timerOf(n); int(timer.class) != i || i == 0 || timer.loop != l {
					return fmt.Errorf("a timer believes to be in class %d", timer.class)
				}
				return nil
			})
		}
		if err != nil {
			return nil, fmt.Errorf("class %d: %w", i, err)
		}
	}
	return waiting, nil
}

// check checks a list, and each of its nodes.
func (t *list) check(one func(*node) error) error {
	var prev *node
	for n := t.head; n != nil; prev, n = n, n.next {
		switch {
		case n.prev != prev:
			return fmt.Errorf("a node has the wrong predecessor")
		case prev != nil && n.deadline < prev.deadline:
			return fmt.Errorf("a node is due before its predecessor")
		}
		if err := one(n); err != nil {
			return err
		}
	}
	if t.tail != prev {
		return fmt.Errorf("the tail is not the last")
	}
	return nil
}

// check reports whether an open connection's parts agree.
func (c *Conn) check(listed, ready bool) error {
	for _, rule := range []struct {
		holds bool
		says  string
	}{
		{bits.OnesCount32(uint32(c.flags&open)) == 1, "has one life"},
		{c.svc != nil && c.gen&special == 0, "has a service and a generation"},
		{listed == (c.class != 0), "is on the list of its class and on no other"},
		{ready == c.has(queued), "is on the ready list exactly if queued"},
		{c.has(registered) != c.has(away), "is watched exactly if it is here"},
		{!c.has(away) || c.class == 0, "away: no timeout runs"},
		{c.out == nil || c.has(blocked|queued|away|dialing), "goes on with its output some time"},
		{!c.has(readable) || c.has(eof|blocked|queued|away|held|waiting|dialing), "goes on with its input some time"},
		{!c.has(waiting) || c.has(away) || c.any(func(u *Conn) bool { return u.out != nil && u.out.waiter.c == c }), "waiting: for another's output"},
		{c.tie == nil || c.tie.next != c && c.tie.next.tie.prev == c, "is tied to others, in a ring"},
		{!c.any(func(u *Conn) bool { return u.has(away) != c.has(away) }), "goes and comes with those that it is tied to"},
		{!c.passes() || c.any(func(u *Conn) bool { return u == c.tie.to && u != c }), "passes to one that it is tied to"},
		{!c.passes() || !c.any(func(u *Conn) bool { return u != c && u.passes() && u.tie.to == c.tie.to }), "…that nobody else passes to"},
		{!c.has(dialing) || c.has(registered), "dialing: is watched"},
		{c.has(sealed) == (*c.svc.loop.seals.at(c.fd) != nil), "has a transport exactly if sealed"},
		{!c.has(blocked) || c.out != nil && c.has(watchOut), "blocked: output waits and is watched"},
		{!c.has(blocked|steady) || c.has(steady) || c.class == 0 || c.runs(c.svc.writeTimeout), "blocked: the write timeout runs"},
		{!c.has(paused) || c.in != nil && (c.out != nil || c.has(held|waiting|queued)), "paused: input waits for output"},
		{!c.has(ended) || c.has(eof), "ended: at the end of file"},
		{!c.has(finishing) || c.out != nil || c.has(queued|away), "finishing: it ends some time"},
		{!c.has(lingering) || c.in == nil && c.out == nil, "lingering: holds nothing"},
		{!c.has(lingering) || c.has(away) || c.runs(c.svc.loop.lingerClass), "lingering: waits not for ever"},
		{c.in == nil || len(c.in) > 0, "keeps no empty input"},
	} {
		if !rule.holds {
			return fmt.Errorf("does not hold: %s", rule.says)
		}
	}
	return nil
}

// any reports whether something holds of one of those that travel with the connection, or of itself.
func (c *Conn) any(holds func(*Conn) bool) (is bool) {
	for u := range c.together {
		is = is || holds(u)
	}
	return is
}

// runs reports whether a class's timeout runs, all of it or what was left elsewhere.
func (c *Conn) runs(id Class) bool {
	return c.class != 0 && (c.class == id || c.class == c.svc.loop.classes[id].moved)
}

// checkMemory reports whether all that the loop holds is counted, and nothing else.
func (l *Loop) checkMemory(kept int) error {
	lent, piping := 0, 0
	l.table.each(func(c *Conn) {
		lent += c.holds()
		if c.out != nil && c.out.pipe != nil {
			piping++
		}
	})
	switch {
	case lent != l.mem.lent:
		return fmt.Errorf("connections hold %d bytes, %d are counted", lent, l.mem.lent)
	case kept != l.mem.kept || kept > keepBytes:
		return fmt.Errorf("%d bytes are kept, %d are counted", kept, l.mem.kept)
	case piping != l.piping || piping > maxPipes:
		return fmt.Errorf("%d pipes are lent, %d are counted", piping, l.piping)
	}
	return nil
}
