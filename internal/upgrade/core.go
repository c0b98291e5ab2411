package upgrade

import (
	"fmt"
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

// core is the state of the service and the decisions about it. It is not safe
// for concurrent use.
type core struct {
	host    host
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
	stop    bool              // the end has been asked for
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
	renewing *errand   // that reads them again; nil if none does

	lost     map[string]string // why an address of the serving configuration has no socket
	left     []*group          // the addresses that a stop leaves
	exit     int               // status of the master when a stop is over
	blind    bool              // the kernel doesn't tell who else listens, which the log has said
	lookedAt time.Time         // for others at our addresses
	lookTook time.Duration     // …the last time

	dividedAt time.Time // when the control group's memory was
	bounded   bool      // …and there was a bound
}

func newCore(h host, log zerolog.Logger, version string, pid int, now time.Time) *core {
	return &core{
		host: h, log: log, version: version, pid: pid, started: now, now: now,
		groups: make(map[string]*group),
	}
}

// serving returns the generation that new connections are for, or nil. While
// one is activating it is that one.
func (c *core) serving() *generation {
	var s *generation
	for _, g := range c.gens {
		if g.state == serving || g.state == activating {
			s = g
		}
	}
	return s
}

// conf returns the configuration in force, or nil before there is one.
func (c *core) conf() *config.Config {
	for _, g := range c.gens {
		if g.state == serving {
			return g.conf
		}
	}
	return nil
}

// request begins a change, or has it wait for the one in progress. Requests for
// the same action that wait are one change: 200 signals are not 200 reloads.
func (c *core) request(r request) {
	ch := &change{action: r.action, cause: r.cause, force: r.force, started: c.now}
	if r.tell != nil {
		ch.waiting = []asker{r.asker}
	}
	switch {
	case r.action == "stop":
		c.requestStop(ch)
	case c.stop:
		c.refuse(ch, "the service is stopping")
	default:
		for _, p := range c.pending {
			if p.action == r.action && !p.single() {
				p.waiting = join(p.waiting, ch.waiting...)
				p.merged++
				p.force = p.force || r.force
				return
			}
		}
		c.pending = append(c.pending, ch)
		c.next()
	}
}

// refuse answers a request that comes to nothing.
func (c *core) refuse(ch *change, text string) {
	for _, a := range ch.waiting {
		a.tell(control.Response{Error: text})
	}
}

// next begins the change that has waited longest, if one may begin.
func (c *core) next() {
	c.pending = slices.DeleteFunc(c.pending, func(ch *change) bool {
		return ch.single() && !ch.waiting[0].waits() // there would be nobody to take over
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

// rebindBlocked tells whether an address is being given up in a way that can't be
// taken back: the path of a Unix socket is unlinked already, and showing a hidden
// TCP socket again needs a privilege. It can only be bound anew when it has
// gone, which is a matter of moments.
func (c *core) rebindBlocked() bool {
	for _, g := range c.groups {
		if g.retiring != nil && g.Refused() && !g.Revivable() {
			return true
		}
	}
	return false
}

// begin starts a reload or an upgrade. Start-up has its own way in: bringUp.
func (c *core) begin(ch *change) {
	c.change = ch
	c.log.Info().Str("action", ch.action).Str("cause", ch.cause).Msg("change begins")
	switch {
	case ch.action == "upgrade":
		if err := c.host.Unfollowed(); err != nil && !ch.force {
			c.fail(err)
			return
		}
		c.startUpgrade(nil)
		return
	case ch.action == "takeover":
		tell := ch.waiting[0].tell
		ch.waiting = nil // the next master has its receipt by other ways
		c.divide()
		c.host.StartTakeover(tell)
		return
	case ch.action == "rollback":
		c.rollBack(ch)
		return
	}
	c.host.Reloading()
	e := c.await("configuration", "reading the configuration")
	c.host.Load(e, func(conf *config.Config, err error) {
		switch {
		case !c.resume(ch, e):
		case err != nil:
			c.fail(err)
		default:
			c.refused = ""
			c.bringUp(conf)
		}
	})
}

// startUpgrade has the next master started, when its binary has been seen to be readable.
func (c *core) startUpgrade(back *prior) {
	ch, e := c.change, c.await("binary", "reading the binary")
	c.host.Touch(e, back, func(err error) {
		switch {
		case !c.resume(ch, e):
		case err != nil:
			c.fail(err)
		default:
			c.divide()
			c.host.StartUpgrade(back)
		}
	})
}

// await makes an errand that the change in progress waits for, as long as a worker may take to start.
func (c *core) await(kind, what string) *errand {
	patience := 10 * time.Second
	if conf := c.conf(); conf != nil {
		patience = conf.StartTimeout
	}
	e := newErrand(kind, what, c.now)
	c.change.errand, c.change.due = e, c.now.Add(patience)
	return e
}

// resume reports whether a change goes on now that an errand is done.
func (c *core) resume(ch *change, e *errand) bool {
	if c.change != ch || ch.errand != e {
		return false
	}
	ch.errand = nil
	return true
}

// receipt makes the answer of the change in progress.
func (c *core) receipt(err error) *control.Receipt {
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
func (c *core) finish(r *control.Receipt) {
	ch := c.change
	c.change = nil
	c.remember(r)
	ev := c.log.Info()
	if !r.OK {
		ev = c.log.Error().Str("error", r.Error)
	}
	ev.Str("action", r.Action).Str("cause", r.Cause).Uint64("generation", r.Generation).
		Float64("ready_ms", r.ReadyMS).Int("coalesced", r.Coalesced).Msg(verdict(r))
	c.host.Switched(r)
	answer := *r
	for _, a := range ch.waiting {
		a.tell(control.Response{Receipt: &answer})
	}
	c.next()
}

// maxReceipts bounds the receipts that are kept.
const maxReceipts = 20

func (c *core) remember(r *control.Receipt) {
	c.receipts = append(c.receipts, r)
	c.receipts = c.receipts[max(0, len(c.receipts)-maxReceipts):]
	c.host.Keep(c.receipts)
}

// replaced returns the receipt of the change that replaced a generation, or nil.
func (c *core) replaced(id uint64) *control.Receipt {
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
	asker
}

// awaitDrained answers when a generation is gone, with its receipt.
func (c *core) awaitDrained(generation uint64, a asker) {
	c.drained = slices.DeleteFunc(c.drained, func(d drainedRequest) bool { return !d.waits() })
	c.drained = append(c.drained, drainedRequest{generation, c.replaced(generation), a})
	c.tellDrained()
}

func (c *core) tellDrained() {
	c.drained = slices.DeleteFunc(c.drained, func(d drainedRequest) bool {
		if slices.ContainsFunc(c.gens, func(g *generation) bool { return g.id == d.generation && g.state != gone }) {
			return false
		}
		if d.receipt == nil {
			d.receipt = c.replaced(d.generation)
		}
		if d.receipt != nil {
			r := *d.receipt
			d.tell(control.Response{Receipt: &r})
		} else {
			d.tell(control.Response{Error: fmt.Sprintf("generation %d is not known any more", d.generation)})
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
