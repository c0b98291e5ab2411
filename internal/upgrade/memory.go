package upgrade

import (
	"os"
	"time"

	"reuseportd/internal/cgroup"
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

// divide tells each worker its share, if that has become another one. It is called whenever
// there are more workers than before, first, and from time to time.
func (c *core) divide() {
	c.dividedAt = c.now
	share := c.memoryShare()
	for _, g := range c.gens {
		for _, w := range g.workers {
			switch {
			case w.proc == nil:
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
func (c *core) memoryShare() int64 {
	var room int64
	if room, c.bounded = c.host.Memory(); !c.bounded {
		return 0
	}
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
func (c *core) nextMaster() bool {
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

// Memory implements host. Until the master that came before has let go, its workers have half.
func (co *coordinator) Memory() (room int64, bounded bool) {
	if co.group == nil {
		return 0, false
	}
	room, bounded = co.group.Room()
	if co.pred != nil {
		room /= 2
	}
	return room, bounded
}

// findGroup looks for the control group that bounds the service.
func (co *coordinator) findGroup() {
	var err error
	if co.group, err = cgroup.Find(os.DirFS("/")); err != nil {
		co.log.Warn().Err(err).Msg("memory is not bounded by the control group: say max_memory if it should be bounded")
	}
}
