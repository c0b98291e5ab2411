package upgrade

import (
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/config"
	"reuseportd/internal/control"
	"reuseportd/internal/eventloop"
	"reuseportd/internal/material"
	"reuseportd/internal/sandbox"
	"reuseportd/internal/shard"
	"reuseportd/internal/wire"
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
	files    *logFiles
	// reopening is the errand that opens them anew, reopenAgain who asked for that since it began.
	reopening   *errand
	reopenAgain []func(ok bool)
	load        *shard.Load // nil when nothing is steered by load,
	// unsteered is why, if something should be.
	unsteered error
	loadID    uint32             // the kernel's, of load; 0 until it is asked for
	essence   []byte             // for the record, once made
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
// Invariant: proc == nil exactly in the states backoff and gone.
type worker struct {
	gen   *generation
	index int
	slots []int

	state    state
	since    time.Time
	proc     process
	pid      int
	page     int // of the ledger: the first of its loops'
	restarts int
	crashes  int // in a row, each soon after its start
	retryAt  time.Time
	opening  *errand // in backoff: what is done before its process is started; nil if nothing is
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

// serves tells whether shards may be lent to the worker.
func (w *worker) serves() bool {
	switch w.gen.state {
	case activating, serving:
		return w.state == ready || w.state == serving
	case draining:
		return w.state == draining
	}
	return false
}

// process is a running worker as the core sees it.
type process interface {
	// Send sends one message; it fails when the worker is gone or takes none.
	Send(kind wire.Kind, body any, fds ...int) error
	Kill(sig unix.Signal)
	// Close lets go of the process, which is dead or another master's.
	Close()
}

// host is what the core can do to the world.
type host interface {
	// Load reads and validates the configuration as it stands now. Like the next four it does an errand,
	// and calls then when that is done, also after the core has given it up.
	Load(e *errand, then func(*config.Config, error))
	// OpenLogs opens the log files of a configuration.
	OpenLogs(e *errand, c *config.Config, then func(*logFiles, error))
	// ReadMaterials reads the files that a configuration names.
	ReadMaterials(e *errand, c *config.Config, then func([]material.Read, error))
	// Watch has changes of such files told of, by materialsChanged.
	WatchMaterials(paths []string)
	// Later calls f in a turn of its own, after a time.
	Later(d time.Duration, f func())
	// Prepare does what has to be done before a process is started for w and may take time: it opens the roots.
	Prepare(e *errand, w *worker, then func(*sandbox.Confinement, error))
	// Touch reads the beginning of the binary that StartUpgrade would start, so that this can be
	// given up: starting it can't.
	Touch(e *errand, back *prior, then func(error))
	// Spawn starts a process for w and sends it Start. Its messages and its
	// death come back as calls of the core's received and exited. What was prepared is let go of.
	Spawn(w *worker, prepared *sandbox.Confinement) (process, int, error)
	// Introduce gives a draining loop and a serving one a channel for handover.
	Introduce(from, to seat, id uint64) error
	// Unfollowed returns why the service would not outlive the end of this master, nil if it will.
	Unfollowed() error
	// StartUpgrade starts the next master; upgraded is called when that is over.
	// StartTakeover gives a custody channel to a master that was started by others.
	StartTakeover(answer func(control.Response))
	// CancelUpgrade makes that soon.
	// With back it is not the binary at this one's path but an earlier one.
	StartUpgrade(back *prior)
	CancelUpgrade()
	// Commit is called when a generation is ready. It leads to activate: at once,
	// or when the master that came before has let go.
	Commit()
	// Predecessor returns the binary of the master that came before, for the caller
	// to close; nil if it is not to be had.
	Predecessor() *os.File
	// Memory returns what all workers together may use, in bytes, if that is bounded.
	Memory() (room int64, bounded bool)
	// Keep keeps the receipts for a master that comes after a killed one.
	Keep(receipts []*control.Receipt)
	// Switched is told of each cut-over and of each failed change.
	Switched(r *control.Receipt)
	// Reloading is told that a change of configuration begins.
	Reloading()
	// Exit ends the master when the present event is done.
	Exit(status int)
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
	waiting []asker
	merged  int                // further requests that it answers
	receipt *control.Receipt   // after the cut-over: what is left is that the old generation lets go
	base    eventloop.Counters // a stop's: what had been counted when it began
	back    *prior             // a rollback's aim
	masters bool               // this master takes over from another
	force   bool               // an upgrade, whoever follows this master
	// progress is how far it is, in words.
	progress string
	errand   *errand   // that it waits for, nil if it doesn't,
	due      time.Time // …and when it does so no more
	fatal    bool      // without it there is nothing to serve on with: start-up
}

// upgrades tells whether another master takes over.
func (ch *change) upgrades() bool {
	return ch.masters || ch.action == "upgrade" || ch.action == "takeover" || ch.back != nil && ch.back.image != nil
}

// single tells whether a change is for one who asks only: there is one custody.
func (ch *change) single() bool { return ch.action == "takeover" }

// request asks for a change.
type request struct {
	action string
	cause  string
	force  bool
	asker  // with a nil tell, nobody asks
}

// counters adds up a worker's loops, those of earlier processes in its place too.
func (c *core) counters(w *worker) eventloop.Counters {
	return c.ledger.Sum(w.page, len(w.slots))
}

// sum adds up a generation, with those of its workers that an earlier master saw
// end: this one was not told of them.
func (c *core) sum(g *generation) eventloop.Counters {
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
func (c *core) sweep() {
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
