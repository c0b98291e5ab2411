package eventloop

import (
	"math"
	"time"
)

// AgeUnit is how exactly a connection's age is known: 16.8 ms.
const (
	ageShift = 24
	AgeUnit  = time.Duration(1 << ageShift)
)

// MaxAge bounds an age that comes from another process; a year fits into it twice.
const MaxAge = AgeUnit<<32 - AgeUnit

// Age returns for how long the connection has been open, here and in the processes that had it
// before: up to two AgeUnit less than that, never more. It starts anew after 2.2 years.
func (c *Conn) Age() time.Duration {
	age := c.svc.loop.ticks() - c.born
	if age > 0 {
		age-- // both ends are rounded down
	}
	return time.Duration(age) << ageShift
}

// ticks is the loop's clock as born counts: modulo 2^32.
func (l *Loop) ticks() uint32 { return uint32(l.now >> ageShift) }

// CountServed counts one more request of the connection.
func (c *Conn) CountServed() {
	if c.served < math.MaxUint32 {
		c.served++
	}
}

// Served returns how often CountServed was called, here and in the processes that had the
// connection before.
func (c *Conn) Served() uint32 { return c.served }
