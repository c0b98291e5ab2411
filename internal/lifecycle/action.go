package lifecycle

import (
	"os"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/config"
	"reuseportd/internal/control"
	"reuseportd/internal/material"
	"reuseportd/internal/sandbox"
	"reuseportd/internal/shard"
	"reuseportd/internal/wire"
)

// Action is something that a Core wants done.
type Action interface{ action() }

// The errands. Each is done elsewhere, and its end is a Done, also after the core has given it up.
type (
	// Load reads and validates the configuration as it stands now: Done has a *config.Config.
	Load struct{ Errand *Errand }
	// OpenLogs opens the log files of a configuration: Done has a Logs.
	OpenLogs struct {
		Errand *Errand
		Conf   *config.Config
	}
	// ReadMaterials reads the files that a configuration names: Done has a []material.Read, for each of Conf.Materials.
	ReadMaterials struct {
		Errand *Errand
		Conf   *config.Config
	}
	// Prepare does what has to be done before a process is started and may take time: it opens the roots. Done has a
	// *sandbox.Confinement.
	Prepare struct {
		Errand *Errand
		Conf   *config.Config
	}
	// Touch reads the beginning of the binary that StartUpgrade would start, so that this can be given up: starting it
	// can't. Unless Force is set it fails if the service would not outlive this master's end. Done has nothing.
	Touch struct {
		Errand *Errand
		Back   *Prior
		Force  bool
	}
)

// Logs are open log files.
type Logs interface{ Close() }

// KeepLogs gives a generation its log files; Forget closes them.
type KeepLogs struct {
	Generation uint64
	Logs       Logs
}

// Forget says that a generation is gone.
type Forget struct{ Generation uint64 }

// WatchMaterials has changes of these files told of, by MaterialsChanged, and of no others.
type WatchMaterials struct{ Paths []string }

// Later has an event told after a time.
type Later struct {
	Delay time.Duration
	Event Event
}

// Measure asks what the control group lets all workers together use; Measured answers.
type Measure struct{}

// Spawn starts a process for a worker and sends it Start; Spawned answers. What was prepared is let go of.
type Spawn struct {
	ID        ID
	Slots     []int
	Page      int   // of the tables: the first of its loops'
	Share     int64 // of the control group's memory, in bytes; 0 is no bound
	Conf      *config.Config
	Load      *shard.Load   // nil when nothing is steered by load
	Materials *material.Set // nil when its configuration names none
	Prepared  *sandbox.Confinement
}

// Send sends a worker one message. WorkerMute says that it takes none.
type Send struct {
	ID   ID
	Kind wire.Kind
	Body any
}

// Lend sends a worker leases, each with its shard's descriptor, which is the same one until the worker
// has taken it.
type Lend struct {
	ID   ID
	Body wire.Lend
}

// SendMaterials sends a worker new contents of files, sealed. MaterialsUnsent says that it can't.
type SendMaterials struct {
	ID  ID
	Set *material.Set
}

// Kill signals a worker's process.
type Kill struct {
	ID     ID
	Signal unix.Signal
}

// Release lets go of a worker's process, which is dead.
type Release struct{ ID ID }

// Introduce gives a draining loop and a serving one a channel for handover. NotIntroduced says that it can't be made.
type Introduce struct {
	ID       uint64 // of the channel, which no message or channel before it has had
	From, To Seat
}

// Seat is one event loop and the process that it is in.
type Seat struct {
	ID   ID
	PID  int
	Slot int
}

// StartUpgrade starts the next master; NotUpgraded or Superseded says what became of it. With Back it is not the binary
// at this one's path but an earlier one.
type StartUpgrade struct{ Back *Prior }

// StartTakeover gives a custody channel to a master that was started by others.
type StartTakeover struct{ Answer func(control.Response) }

// CancelUpgrade makes NotUpgraded come soon.
type CancelUpgrade struct{}

// Commit is wanted when a generation is ready: this master becomes the one that counts, at once, or when the one before it
// has let go. Committed answers.
type Commit struct{}

// Keep keeps the receipts for a master that comes after a killed one.
type Keep struct{ Receipts []*control.Receipt }

// Switched is said of each cut-over and of each failed change.
type Switched struct{ Receipt *control.Receipt }

// Reloading is said when a change of configuration begins.
type Reloading struct{}

// Exit ends the master when the present event is done.
type Exit struct{ Status int }

// Tell answers who has asked for something.
type Tell struct {
	To       func(control.Response)
	Response control.Response
}

// Discard closes an earlier master's binary.
type Discard struct{ Image *os.File }

func (Load) action()           {}
func (OpenLogs) action()       {}
func (ReadMaterials) action()  {}
func (Prepare) action()        {}
func (Touch) action()          {}
func (KeepLogs) action()       {}
func (Forget) action()         {}
func (WatchMaterials) action() {}
func (Later) action()          {}
func (Measure) action()        {}
func (Spawn) action()          {}
func (Send) action()           {}
func (Lend) action()           {}
func (SendMaterials) action()  {}
func (Kill) action()           {}
func (Release) action()        {}
func (Introduce) action()      {}
func (StartUpgrade) action()   {}
func (StartTakeover) action()  {}
func (CancelUpgrade) action()  {}
func (Commit) action()         {}
func (Keep) action()           {}
func (Switched) action()       {}
func (Reloading) action()      {}
func (Exit) action()           {}
func (Tell) action()           {}
func (Discard) action()        {}
