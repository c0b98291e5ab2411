package eventloop

import "time"

// SetMinRate has the connections' peers keep to a rate in bytes a second, in what they take of their
// output and in what Pass passes on; 0 is no rate. Only time in which the peer is waited for counts.
// One that takes too slowly is cut; of one that sends too slowly the handler, a Pacer, is told. What
// a tunnel carries, passed on both ways without an end, has no rate.
func (s *Service) SetMinRate(rate int64) { s.minRate = rate }

// Pacer is a Passer whose peers are to keep to a rate.
type Pacer interface {
	Passer
	// TooSlow is called when what Pass is to pass on comes too slowly. The handler ends that.
	TooSlow(c *Conn)
}

const (
	// paceGrace is what a peer may be behind its rate, in nanoseconds.
	paceGrace = int64(5 * time.Second)
	// paceCredit bounds what counts of having been faster before, in nanoseconds.
	paceCredit = int64(30 * time.Second)
)

// Pace is how a peer keeps to its rate. While it is waited for it has time left, each byte earns it
// more, and when there is none it is too slow. The zero Pace has not begun.
type Pace struct {
	due int64 // when no time is left, on the loop's clock; ^due is what was left at a pause
}

// Await says that the peer is waited for, from now on or again.
func (c *Conn) Await(p *Pace) {
	switch {
	case c.svc.rate() == 0:
	case p.due == 0, c.svc.minRate == 0 && p.due > 0 && p.due < c.svc.loop.scarce.since:
		p.due = c.svc.loop.now + paceGrace
	case p.due < 0:
		p.due = c.svc.loop.now + ^p.due
	}
}

// pause says that it is not the peer that is waited for now.
func (p *Pace) pause(now int64) {
	if p.due > 0 {
		p.due = ^max(0, p.due-now)
	}
}

// KeepsUp counts n bytes, and reports whether the peer is fast enough.
func (c *Conn) KeepsUp(p *Pace, n int) bool {
	rate := c.svc.rate()
	if rate == 0 {
		return true
	}
	earned := int64(min(n, 1<<30)) * int64(time.Second) / rate
	if p.due < 0 {
		p.due = ^min(^p.due+earned, paceGrace+paceCredit)
		return true
	}
	c.Await(p) // and begins anew what an earlier scarcity has left
	now := c.svc.loop.now
	p.due = min(p.due+earned, now+paceGrace+paceCredit)
	return now <= p.due
}

// tunnels reports whether all that comes is passed on, without an end.
func (c *Conn) tunnels() bool { return c.tie != nil && c.tie.left == passAll }

// taking is the pace at which a peer takes output. Where connections are joined it goes through all of its outputs,
// one of which may be gone before the next one comes.
func (c *Conn) taking() *Pace {
	if c.tie != nil {
		return &c.tie.takes
	}
	return &c.out.pace
}

// takes counts n bytes of output that a peer has had room for, and reports whether it goes on:
// one that is too slow is cut.
func (l *Loop) takes(c *Conn, n int) bool {
	if c.tunnels() || c.KeepsUp(c.taking(), n) {
		return true
	}
	l.count.Slow++
	l.end(c, wayCut, 0)
	return false
}

// Brings counts n bytes of input that a handler passes on to the connection's partner, as Pass counts
// its own, and reports whether the peer is fast enough.
func (c *Conn) Brings(n int) bool {
	if c.tie == nil || c.KeepsUp(&c.tie.sends, n) {
		return true
	}
	if p := c.Partner(); p != nil && p.out != nil {
		return true // it isn't the peer that is waited for
	}
	c.svc.loop.count.Slow++
	return false
}
