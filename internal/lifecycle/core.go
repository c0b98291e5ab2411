package lifecycle

import (
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/rs/zerolog"

	"reuseportd/internal/clients"
	"reuseportd/internal/config"
	"reuseportd/internal/control"
	"reuseportd/internal/material"
	"reuseportd/internal/stats"
	"reuseportd/internal/upstream"
)

// Core is the state of the service and the decisions about it. It is not safe
// for concurrent use.
type Core struct {
	todo    []Action // what the event being handled has led to
	log     zerolog.Logger
	now     time.Time // of the event being handled
	version string
	pid     int
	started time.Time

	lastID uint64 // of a generation
	seq    uint64 // of a message that is acknowledged

	// gens holds all generations that are not gone, oldest first. Invariant: at
	// most one is serving, and at most one is starting, ready or activating;
	// that one is change.gen.
	gens    []*generation
	groups  map[string]*group // by config.Listener.Key
	change  *change           // in progress
	pending []*change         // asked for meanwhile, one for each action
	// established says that this master is the one that counts: a generation that is ready needs no leave to serve.
	established bool
	stop        bool // the end has been asked for
	// receipts are of the latest changes, oldest first.
	receipts []*control.Receipt
	drained  []drainedRequest // that wait
	trial    *trial           // the serving generation's probation, nil when it is over
	refused  string           // why the file's present content does not serve
	loaded   time.Time        // when the serving configuration was
	ledger   *stats.Ledger    // the counters of all workers, alive and gone
	clients  *clients.Table   // how many connections each client has
	board    *upstream.Board  // what they know of the servers of upstreams
	keeper   bool             // no other master may be changing the ledger
	nofile   uint64

	materials material.Store
	// wanting is the configuration that was refused for the files that it names, nil if none was: they may come.
	wanting  *config.Config
	warnedAt time.Time // of certificates whose time is over soon
	renewing *Errand   // that reads them again; nil if none does

	lost     map[string]string // why an address of the serving configuration has no socket
	left     []*group          // the addresses that a stop leaves
	exit     int               // status of the master when a stop is over
	blind    bool              // the kernel doesn't tell who else listens, which the log has said
	lookedAt time.Time         // for others at our addresses
	lookTook time.Duration     // …the last time

	dividedAt time.Time // when the control group's memory was asked for
	group     Measured  // what it was then

	predecessor *os.File // the binary of the master that came before, until a rollback may need it
}

// New returns the core of a master that has nothing yet. nofile is the limit of descriptors that status shows.
func New(log zerolog.Logger, version string, pid int, nofile uint64, now time.Time) *Core {
	return &Core{
		log: log, version: version, pid: pid, nofile: nofile, started: now, now: now,
		groups: make(map[string]*group),
	}
}

// serving returns the generation that new connections are for, or nil. While
// one is activating it is that one.
func (c *Core) serving() *generation {
	var s *generation
	for _, g := range c.gens {
		if g.state == serving || g.state == activating {
			s = g
		}
	}
	return s
}

// Conf returns the configuration in force, or nil before there is one.
func (c *Core) Conf() *config.Config {
	for _, g := range c.gens {
		if g.state == serving {
			return g.conf
		}
	}
	return nil
}

// request begins a change, or has it wait for the one in progress. Requests for
// the same action that wait are one change: 200 signals are not 200 reloads.
func (c *Core) request(r Request) {
	ch := &change{action: r.Action, cause: r.Cause, force: r.Force, started: c.now}
	if r.Tell != nil {
		ch.waiting = []Asker{r.Asker}
	}
	switch {
	case r.Action == "stop":
		c.requestStop(ch)
	case c.stop:
		c.refuse(ch, "the service is stopping")
	default:
		for _, p := range c.pending {
			if p.action == r.Action && !p.single() {
				p.waiting = join(p.waiting, ch.waiting...)
				p.merged++
				p.force = p.force || r.Force
				return
			}
		}
		c.pending = append(c.pending, ch)
		c.next()
	}
}

// refuse answers a request that comes to nothing.
func (c *Core) refuse(ch *change, text string) {
	for _, a := range ch.waiting {
		c.do(Tell{a.Tell, control.Response{Error: text}})
	}
}

// next begins the change that has waited longest, if one may begin.
func (c *Core) next() {
	c.pending = slices.DeleteFunc(c.pending, func(ch *change) bool {
		return ch.single() && !ch.waiting[0].Waits() // there would be nobody to take over
	})
	if c.change != nil || len(c.pending) == 0 || c.stop {
		return
	}
	if c.retireLost(); c.rebindBlocked() {
		return // closeShards calls again
	}
	ch := c.pending[0]
	c.pending = c.pending[1:]
	c.begin(ch)
}

// rebindBlocked reports whether an address is being given up in a way that can't be
// taken back: the path of a Unix socket is unlinked already, and showing a hidden
// TCP socket again needs a privilege. It can only be bound anew when it has
// gone, which is a matter of moments.
func (c *Core) rebindBlocked() bool {
	for _, g := range c.groups {
		if g.retiring != nil && g.Refused() && !g.Revivable() {
			return true
		}
	}
	return false
}

// begin starts a reload or an upgrade. Start-up has its own way in: Begin.
func (c *Core) begin(ch *change) {
	c.change = ch
	c.log.Info().Str("action", ch.action).Str("cause", ch.cause).Msg("change begins")
	switch {
	case ch.action == "upgrade":
		c.startUpgrade(nil)
		return
	case ch.action == "takeover":
		answer := ch.waiting[0].Tell
		ch.waiting = nil // the next master has its receipt by other ways
		c.divide()
		c.do(StartTakeover{answer})
		return
	case ch.action == "rollback":
		c.rollBack(ch)
		return
	}
	c.do(Reloading{})
	e := c.errand("configuration", "reading the configuration")
	await(c, ch, e, func(conf *config.Config, err error) {
		if err != nil {
			c.fail(err)
			return
		}
		c.refused = ""
		c.bringUp(conf)
	}, nil)
	c.do(Load{e})
}

// startUpgrade has the next master started, when its binary has been seen to be readable.
func (c *Core) startUpgrade(back *Prior) {
	ch, e := c.change, c.errand("binary", "reading the binary")
	await(c, ch, e, func(_ any, err error) {
		if err != nil {
			c.fail(err)
			return
		}
		c.divide()
		c.do(StartUpgrade{back})
	}, nil)
	c.do(Touch{e, back, ch.force || back != nil})
}

// errand makes one that the change in progress waits for, as long as a worker may take to start.
func (c *Core) errand(kind, what string) *Errand {
	patience := 10 * time.Second
	if conf := c.Conf(); conf != nil {
		patience = conf.StartTimeout
	}
	e := NewErrand(kind, what, c.now)
	c.change.errand, c.change.due = e, c.now.Add(patience)
	return e
}

// receipt makes the answer of the change in progress.
func (c *Core) receipt(err error) *control.Receipt {
	ch := c.change
	r := &control.Receipt{
		Action: ch.action, Cause: ch.cause, OK: err == nil,
		PID: c.pid, Version: c.version, Started: ch.started, Coalesced: ch.merged,
		ReadyMS: float64(c.now.Sub(ch.started).Microseconds()) / 1000,
	}
	if err != nil {
		r.Error = err.Error()
	}
	for _, g := range c.gens {
		if g.state == serving {
			r.Generation, r.Previous, r.ConfigSHA256 = g.id, g.id, g.conf.SHA256
		}
	}
	return r
}

// finish ends the change in progress and answers whoever asked for it.
func (c *Core) finish(r *control.Receipt) {
	ch := c.change
	c.change = nil
	c.remember(r)
	ev := c.log.Info()
	if !r.OK {
		ev = c.log.Error().Str("error", r.Error)
	}
	ev.Str("action", r.Action).Str("cause", r.Cause).Uint64("generation", r.Generation).
		Float64("ready_ms", r.ReadyMS).Int("coalesced", r.Coalesced).Msg(verdict(r))
	c.do(Switched{r})
	if r.Action != "stop" {
		c.watchMaterials()
	}
	answer := *r
	for _, a := range ch.waiting {
		c.do(Tell{a.Tell, control.Response{Receipt: &answer}})
	}
	c.next()
}

// maxReceipts bounds the receipts that are kept.
const maxReceipts = 20

func (c *Core) remember(r *control.Receipt) {
	c.receipts = append(c.receipts, r)
	c.receipts = c.receipts[max(0, len(c.receipts)-maxReceipts):]
	c.do(Keep{c.receipts})
}

// replaced returns the receipt of the change that replaced a generation, or nil.
func (c *Core) replaced(id uint64) *control.Receipt {
	for _, r := range slices.Backward(c.receipts) {
		if r.OK && r.Previous == id && r.Generation != id {
			return r
		}
	}
	return nil
}

// drainedRequest waits for the end of a generation.
type drainedRequest struct {
	generation uint64
	// receipt is of the change that replaced it, which others may crowd out of
	// those that are kept; nil if it isn't known yet.
	receipt *control.Receipt
	Asker
}

// awaitDrained answers when a generation is gone, with its receipt.
func (c *Core) awaitDrained(generation uint64, a Asker) {
	c.drained = slices.DeleteFunc(c.drained, func(d drainedRequest) bool { return !d.Waits() })
	c.drained = append(c.drained, drainedRequest{generation, c.replaced(generation), a})
	c.tellDrained()
}

func (c *Core) tellDrained() {
	c.drained = slices.DeleteFunc(c.drained, func(d drainedRequest) bool {
		if slices.ContainsFunc(c.gens, func(g *generation) bool { return g.id == d.generation && g.state != gone }) {
			return false
		}
		if d.receipt == nil {
			d.receipt = c.replaced(d.generation)
		}
		if d.receipt != nil {
			r := *d.receipt
			c.do(Tell{d.Tell, control.Response{Receipt: &r}})
		} else {
			c.do(Tell{d.Tell, control.Response{Error: fmt.Sprintf("generation %d is not known any more", d.generation)}})
		}
		return true
	})
}

func verdict(r *control.Receipt) string {
	switch {
	case !r.OK && r.Action == "start" && r.Generation == 0:
		return "start failed: nothing serves"
	case !r.OK:
		return "change failed: what served before serves on"
	case r.Action == "stop" && len(r.Others) > 0:
		return "stopped: nothing of this service is left open, but others answer at its addresses"
	case r.Action == "stop":
		return "stopped: nothing is left open"
	default:
		return "change done: the new generation serves"
	}
}
