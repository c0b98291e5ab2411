package lifecycle

import (
	"slices"
	"time"

	"reuseportd/internal/config"
	"reuseportd/internal/control"
	"reuseportd/internal/eventloop"
	"reuseportd/internal/shard"
)

// state is a generation's or a worker's; docs/LIFECYCLE.md has the table.
type state string

const (
	starting   state = "starting"
	ready      state = "ready"
	activating state = "activating" // generations only: shards are being lent
	serving    state = "serving"
	draining   state = "draining"
	failed     state = "failed"  // generations only: being ended before it served
	backoff    state = "backoff" // workers only: waits to be started again
	gone       state = "gone"
)

// generation is the workers that were started together, from one configuration
// and one binary.
type generation struct {
	id       uint64
	conf     *config.Config
	state    state
	since    time.Time // when it entered its state
	deadline time.Time // of the drain
	workers  []*worker
	load     *shard.Load // nil when nothing is steered by load,
	// unsteered is why, if something should be.
	unsteered error
	receipt   *control.Receipt   // of the change that replaced it
	base      eventloop.Counters // when the drain began
	// handedOver is when the last of its connections was taken over, as far as
	// its workers have said.
	handedOver time.Time
	stayed     string // why some were not, as far as its workers have said
}

func (g *generation) enter(s state, now time.Time) { g.state, g.since = s, now }

// lease names the use of one shard by one loop.
type lease struct {
	key   string
	index int // of the shard
	slot  int // of the loop
}

// worker is one place in a generation and the process that fills it, if any.
//
// Invariant: running is false exactly in the states backoff and gone. Between Spawn and Spawned it is true, and pid is 0.
type worker struct {
	gen   *generation
	index int
	slots []int

	state    state
	since    time.Time
	running  bool // it has a process
	pid      int
	page     int // of the ledger: the first of its loops'
	restarts int
	crashes  int // in a row, each soon after its start
	retryAt  time.Time
	opening  *Errand // in backoff: what is done before its process is started; nil if nothing is
	lastErr  string
	// kept is what is in force for the process, nil when that is not known.
	kept *control.Sandbox

	share     int64 // of the control group's memory, as it was told; 0 is no bound
	sharesNot bool  // it is of a release that knows of no shares

	// leases holds what was lent and not withdrawn; true once acknowledged.
	leases map[lease]bool
	// waiting holds the leases of each message that was not acknowledged yet.
	waiting map[uint64][]lease
	// heirs are the channels to heirs that a draining worker was given.
	heirs map[bond]bool
	// heirsAt is when it may be given heirs again, after a channel to one could not be.
	heirsAt time.Time

	// materials is the number of the newest materials that it was sent, hasMaterials of those that it has taken.
	materials, hasMaterials uint64

	room     int // clients that it has room for, as it has said; 0 is not known
	pingSeq  uint64
	pingedAt time.Time // when the unanswered ping was sent; zero if none is
	pongAt   time.Time
	doomed   time.Time // when it was told to end by a signal; zero if not
}

func (w *worker) enter(s state, now time.Time) { w.state, w.since = s, now }

// serves reports whether shards may be lent to the worker.
func (w *worker) serves() bool {
	switch w.gen.state {
	case activating, serving:
		return w.state == ready || w.state == serving
	case draining:
		return w.state == draining
	}
	return false
}

// group is the sockets of one address and where their retirement stands.
type group struct {
	*shard.Group
	retiring *retirement // nil when no shard is to go
	// met holds the cookies of others' sockets at the address that the log has told of.
	met map[uint64]bool
	why error // it is not steered as its configuration asks for; nil when it is
}

// change is an action in progress.
type change struct {
	action  string // start reload upgrade rollback stop
	cause   string
	started time.Time
	gen     *generation // being brought up; nil for stop
	waiting []Asker
	merged  int                // further requests that it answers
	receipt *control.Receipt   // after the cut-over: what is left is that the old generation lets go
	base    eventloop.Counters // a stop's: what had been counted when it began
	back    *Prior             // a rollback's aim
	masters bool               // this master takes over from another
	force   bool               // an upgrade, whoever follows this master
	// progress is how far it is, in words.
	progress string
	errand   *Errand   // that it waits for, nil if it doesn't,
	due      time.Time // …and when it does so no more
	fatal    bool      // without it there is nothing to serve on with: start-up
}

// upgrades reports whether another master takes over.
func (ch *change) upgrades() bool {
	return ch.masters || ch.action == "upgrade" || ch.action == "takeover" || ch.back != nil && ch.back.Image != nil
}

// single reports whether a change is for one who asks only: there is one custody.
func (ch *change) single() bool { return ch.action == "takeover" }

// counters adds up a worker's loops, those of earlier processes in its place too.
func (c *Core) counters(w *worker) eventloop.Counters {
	return c.ledger.Sum(w.page, len(w.slots))
}

// sum adds up a generation, with those of its workers that an earlier master saw
// end: this one was not told of them.
func (c *Core) sum(g *generation) eventloop.Counters {
	var sum eventloop.Counters
	for _, run := range c.ledger.Used(g.id) {
		for i := range run.N {
			counts := c.ledger.Read(run.First + i)
			sum.Add(&counts)
		}
	}
	return sum
}

// sweep folds the pages of generations that are gone.
func (c *Core) sweep() {
	if !c.keeper {
		return
	}
	left := c.ledger.Left(func(id uint64) bool {
		return slices.ContainsFunc(c.gens, func(g *generation) bool { return g.id == id })
	})
	for _, run := range left {
		c.ledger.Fold(run.First, run.N)
		c.board.ClearRows(run.First, run.N)
		c.clients.ClearRows(run.First, run.N)
	}
}

// id names the worker's place.
func (w *worker) id() ID { return ID{w.gen.id, w.index} }

// worker returns the one at a place, nil if there is none any more.
func (c *Core) worker(id ID) *worker {
	for _, g := range c.gens {
		if g.id != id.Generation {
			continue
		}
		for _, w := range g.workers {
			if w.index == id.Index {
				return w
			}
		}
	}
	return nil
}
