package lifecycle

import (
	"os"
	"time"

	"reuseportd/internal/clients"
	"reuseportd/internal/config"
	"reuseportd/internal/control"
	"reuseportd/internal/stats"
	"reuseportd/internal/upstream"
	"reuseportd/internal/wire"
)

// Event is something that a Core is told.
type Event interface{ handle(c *Core) }

// Handle tells the core of an event, and returns what is to be done, in that order. What comes of an
// action, where it says so, is told by a further event before the master does anything else.
func (c *Core) Handle(now time.Time, ev Event) []Action {
	c.now = now
	ev.handle(c)
	todo := c.todo
	c.todo = nil
	return todo
}

// do has something done when the event is dealt with.
func (c *Core) do(a Action) { c.todo = append(c.todo, a) }

// ID names a worker's place in a generation, whose processes come and go.
type ID struct {
	Generation uint64
	Index      int
}

// Begin is a master's first event, when it has what was there before: the change that brings its first generation up.
type Begin struct {
	Action, Cause string
	Started       time.Time
	Conf          *config.Config
	Masters       bool // it takes over from another master, whose workers it has at its Commit
	Fatal         bool // without it there is nothing to serve on with
}

func (b Begin) handle(c *Core) {
	ch := &change{action: b.Action, cause: b.Cause, started: b.Started, masters: b.Masters, fatal: b.Fatal}
	if !b.Masters && c.rebindBlocked() { // closeShards goes on with it
		c.pending = append(c.pending, ch)
		return
	}
	c.change = ch
	c.bringUp(b.Conf)
}

// Request asks for a change: "reload", "upgrade", "takeover" or "stop".
type Request struct {
	Action string
	Cause  string
	Force  bool // an upgrade, whoever follows this master
	Asker       // with a nil Tell, nobody asks
}

func (r Request) handle(c *Core) { c.request(r) }

// CauseSignal is the cause of what a signal asked for.
const CauseSignal = "signal"

// AwaitDrained has Asker told when a generation is gone.
type AwaitDrained struct {
	Generation uint64
	Asker
}

func (a AwaitDrained) handle(c *Core) { c.awaitDrained(a.Generation, a.Asker) }

// Tick says that Wait's time has passed, or that less has. Late says that the master itself was held up.
type Tick struct{ Late bool }

func (t Tick) handle(c *Core) { c.tick(t.Late) }

// Look has the core look whether the sockets' files are there, and who else listens at its addresses.
type Look struct{}

func (Look) handle(c *Core) { c.keepPaths(); c.watchAddresses() }

// Housekeep has it do what is due once in hours: new keys for tickets, warnings of certificates.
type Housekeep struct{}

func (Housekeep) handle(c *Core) { c.rotateTickets(); c.warnOfExpiry() }

// Done says that an errand is done. Value is what the action says.
type Done struct {
	Errand *Errand
	Value  any
	Err    error
}

func (d Done) handle(*Core) { d.Errand.then(d.Value, d.Err) }

// MaterialsChanged says that a file that WatchMaterials named has changed.
type MaterialsChanged struct{}

func (MaterialsChanged) handle(c *Core) { c.materialsChanged() }

// secondGlance looks again at materials that were bad.
type secondGlance struct{}

func (secondGlance) handle(c *Core) { c.renew(true) }

// Measured answers Measure: what all workers together may use, in bytes, if that is bounded.
type Measured struct {
	Room    int64
	Bounded bool
}

func (m Measured) handle(c *Core) { c.measured(m) }

// Spawned answers Spawn.
type Spawned struct {
	ID      ID
	PID     int
	Sandbox *control.Sandbox
	Err     error // there is no process
}

func (s Spawned) handle(c *Core) {
	if w := c.worker(s.ID); w != nil {
		c.spawned(w, s)
	}
}

// WorkerReady says that a worker has built everything.
type WorkerReady struct {
	ID      ID
	Room    int              // clients that it has room for; 0 is not known
	Sandbox *control.Sandbox // what the kernel says is in force
}

func (e WorkerReady) handle(c *Core) {
	if w := c.worker(e.ID); w != nil {
		w.room, w.kept = e.Room, e.Sandbox
		c.workerReady(w)
	}
}

// WorkerFailed says that a worker can't do its work.
type WorkerFailed struct {
	ID   ID
	Text string
}

func (e WorkerFailed) handle(c *Core) {
	if w := c.worker(e.ID); w != nil {
		c.workerFailed(w, e.Text)
	}
}

// WorkerSaid is one of a worker's other messages: wire.Lent, Withdrawn, Pong, Lost, MaterialsTaken or Bye. It is
// bounded, and texts are printable.
type WorkerSaid struct {
	ID   ID
	Body any
}

func (e WorkerSaid) handle(c *Core) {
	w := c.worker(e.ID)
	if w == nil || !w.running {
		return
	}
	switch b := e.Body.(type) {
	case wire.Lent:
		c.workerLent(w, b)
	case wire.Withdrawn:
		c.workerWithdrawn(w, b)
	case wire.Pong:
		c.workerPong(w, b)
	case wire.Lost:
		c.workerLost(w, b)
	case wire.MaterialsTaken:
		c.materialsTaken(w, b)
	case wire.Bye:
		c.workerBye(w, b)
	case wire.Unknown:
		w.sharesNot = w.sharesNot || b.Kind == wire.KindMemory
	}
}

// MaterialsUnsent says that a SendMaterials could not be done.
type MaterialsUnsent struct{ ID ID }

func (e MaterialsUnsent) handle(c *Core) {
	if w := c.worker(e.ID); w != nil {
		w.materials = 0
	}
}

// WorkerMute says that a worker takes no message, or that its channel has ended.
type WorkerMute struct {
	ID  ID
	Why string
}

func (e WorkerMute) handle(c *Core) {
	if w := c.worker(e.ID); w != nil {
		c.kill(w, e.Why)
	}
}

// WorkerExited says that a worker's process is dead.
type WorkerExited struct {
	ID     ID
	Status string
}

func (e WorkerExited) handle(c *Core) {
	if w := c.worker(e.ID); w != nil && w.running {
		c.workerExited(w, e.Status)
	}
}

// NotIntroduced says that an Introduce could not be done.
type NotIntroduced struct {
	Introduce
	Err error
}

func (e NotIntroduced) handle(c *Core) { c.notIntroduced(e) }

// Established says that this master is the one that counts before it has a generation of its own: it has found workers.
type Established struct{}

func (Established) handle(c *Core) { c.established = true }

// Committed answers Commit: this master is the one that counts, or why it can't be.
type Committed struct{ Err error }

func (e Committed) handle(c *Core) {
	if e.Err != nil {
		c.fail(e.Err)
		return
	}
	c.established = true
	c.activate()
}

// NextMaster says that one has been started and gets ready.
type NextMaster struct{ Progress string }

func (e NextMaster) handle(c *Core) {
	if c.change != nil {
		c.change.progress = e.Progress
	}
}

// Giving says that custody is being given to a next master, which may change what this one has in common with it.
type Giving struct{}

func (Giving) handle(c *Core) { c.keeper = false }

// NotUpgraded says that another master did not come to take over; nothing has changed. Woken says that the workers' messages
// have waited meanwhile.
type NotUpgraded struct {
	Err   error
	Woken bool
}

func (e NotUpgraded) handle(c *Core) {
	if e.Woken {
		c.woken()
	}
	if c.change == nil || !c.change.upgrades() {
		return
	}
	c.keeper = true
	c.fail(e.Err)
	c.beginStop()
}

// Superseded says that another master has taken over, with the receipt of that.
type Superseded struct{ Receipt *control.Receipt }

func (e Superseded) handle(c *Core) { c.superseded(e.Receipt) }

// Tables gives the core the memory that all workers share, made by this master or one before it.
type Tables struct {
	Ledger  *stats.Ledger
	Board   *upstream.Board
	Clients *clients.Table
}

func (t Tables) handle(c *Core) { c.ledger, c.board, c.clients = t.Ledger, t.Board, t.Clients }

// Keeper says that no other master may be changing the tables.
type Keeper struct{}

func (Keeper) handle(c *Core) { c.keeper = true }

// Predecessor gives the core the binary of the master that came before, for a rollback.
type Predecessor struct{ Image *os.File }

func (e Predecessor) handle(c *Core) { c.predecessor = e.Image }
