package lifecycle

import (
	"time"

	"reuseportd/internal/wire"
)

// What the control group lets the service use is divided equally among all workers that live, of all
// generations: while there are two, each has half. What isn't the workers' is kept back.
const (
	// divideEvery is how often the group is looked at again.
	divideEvery = time.Second
	// An eighth is for masters, page cache and what lies between two looks, within these bounds, in bytes.
	leastReserve = 16 << 20
	mostReserve  = 256 << 20
	// leastShare is a worker's share where there is too little for all; shareStep what shares are
	// multiples of, so that few are told. In bytes.
	leastShare = 8 << 20
	shareStep  = 1 << 20
)

// divide has the group looked at, and each worker told its share, if that has become another one. It is called
// whenever there are more workers than before, first, and from time to time.
func (c *Core) divide() {
	c.dividedAt = c.now
	c.do(Measure{})
}

// measured divides what there is.
func (c *Core) measured(m Measured) {
	c.group = m
	share := c.memoryShare()
	for _, g := range c.gens {
		for _, w := range g.workers {
			switch {
			case !w.running:
				w.share = share // Start will say so
			case w.sharesNot, share == w.share, share > w.share && share-w.share < w.share/16 && w.share != 0:
			default:
				w.share = share
				c.tell(w, wire.KindMemory, wire.Memory{Share: share})
			}
		}
	}
}

// memoryShare returns one worker's share, in bytes; 0 is no bound.
func (c *Core) memoryShare() int64 {
	if !c.group.Bounded {
		return 0
	}
	room := c.group.Room
	n := int64(0)
	for _, g := range c.gens {
		for _, w := range g.workers {
			if w.state != gone {
				n++
			}
		}
	}
	if c.nextMaster() {
		n *= 2 // it starts as many, and doesn't know of these before it has them
	}
	room -= min(max(room/8, leastReserve), mostReserve)
	return max(room/max(n, 1)/shareStep*shareStep, leastShare)
}

// nextMaster reports whether another master may be starting workers.
func (c *Core) nextMaster() bool {
	if c.change == nil || c.change.gen != nil {
		return false
	}
	switch c.change.action {
	case "upgrade", "takeover", "rollback":
		return true
	}
	return false
}

// maxMemory is what bounds a worker, in bytes; 0 is nothing.
func (w *worker) maxMemory() int64 { return w.gen.conf.MemoryOf(w.share) }
