package upgrade

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"reuseportd/internal/clients"
	"reuseportd/internal/config"
	"reuseportd/internal/control"
	"reuseportd/internal/material"
	"reuseportd/internal/sandbox"
	"reuseportd/internal/stats"
	"reuseportd/internal/upstream"
	"reuseportd/internal/wire"
)

// fakeProc is a worker process that does what it is told when the test lets it.
type fakeProc struct {
	t     *testing.T
	world *world
	w     *worker
	inbox []fakeMessage
	has   map[lease]bool // what it accepts from
	plain map[lease]bool // those of them that every connection wakes
	drain bool
	dead  bool
}

type fakeMessage struct {
	kind wire.Kind
	body any
}

func (p *fakeProc) Send(kind wire.Kind, body any, _ ...int) error {
	if p.dead {
		return errors.New("gone")
	}
	if b, ok := body.(wire.Withdraw); ok {
		for _, le := range b.Leases {
			p.world.checkWithdraw(p, leaseOf(le))
		}
	}
	p.inbox = append(p.inbox, fakeMessage{kind, body})
	return nil
}

func (p *fakeProc) Kill(unix.Signal) { p.dead = true }
func (p *fakeProc) Close()           {}

// step has the process handle one message.
func (p *fakeProc) step() {
	m := p.inbox[0]
	p.inbox = p.inbox[1:]
	c := p.world.core
	switch b := m.body.(type) {
	case wire.Lend:
		for _, le := range b.Leases {
			if p.has[leaseOf(le)] {
				p.t.Errorf("worker %d of generation %d is lent %v twice", p.w.index, p.w.gen.id, le)
			}
			p.has[leaseOf(le)] = true
			p.plain[leaseOf(le)] = !le.Exclusive
		}
		c.workerLent(p.w, wire.Lent{Seq: b.Seq})
	case wire.Withdraw:
		for _, le := range b.Leases {
			delete(p.has, leaseOf(le))
		}
		c.workerWithdrawn(p.w, wire.Withdrawn{Seq: b.Seq})
	case wire.Drain:
		p.drain = true
	case wire.Ping:
		p.world.moved = false // nothing changes by it
		c.workerPong(p.w, wire.Pong{Seq: b.Seq})
	}
}

// world is a core with fake processes and real sockets.
type world struct {
	t       *testing.T
	core    *core
	conf    *config.Config // what Load returns
	procs   []*fakeProc
	ready   bool // new processes say so at once
	exited  bool
	status  int
	answers []*control.Receipt
	room    int64 // of the control group; 0 is no bound
	moved   bool  // the latest action was more than a ping
	random  *rand.Rand
	hangs   map[string]bool // kinds of errands that a file system doesn't let end
	late    []func()        // …and what is done when it does
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, ready: true, random: rand.New(rand.NewPCG(1, 2))}
	w.core = newCore(w, zerolog.Nop(), "test", 1, time.Now())
	ledger, err := stats.NewLedger()
	if err != nil {
		t.Fatal(err)
	}
	w.core.ledger, w.core.keeper = ledger, true
	if w.core.clients, err = clients.New(); err != nil {
		t.Fatal(err)
	}
	if w.core.board, err = upstream.NewBoard(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.core.clients.Close(); err != nil {
			t.Error(err)
		}
		if err := w.core.board.Close(); err != nil {
			t.Error(err)
		}
		if err := ledger.Close(); err != nil {
			t.Error(err)
		}
		for _, g := range w.core.groups {
			if err := g.Remove(); err != nil {
				t.Error(err)
			}
		}
	})
	return w
}

// do does an errand at once, or when the test lets it.
func (w *world) do(e *errand, f func()) {
	if w.hangs[e.kind] {
		w.late = append(w.late, f)
		return
	}
	f()
}

func (w *world) Load(e *errand, then func(*config.Config, error)) {
	w.do(e, func() {
		if w.conf == nil {
			then(nil, errors.New("bad configuration"))
			return
		}
		then(w.conf, nil)
	})
}

func (w *world) OpenLogs(e *errand, _ *config.Config, then func(*logFiles, error)) {
	w.do(e, func() { then(nil, nil) })
}

func (w *world) ReadMaterials(e *errand, _ *config.Config, then func([]material.Read, error)) {
	w.do(e, func() { then(nil, nil) })
}

func (w *world) WatchMaterials([]string)     {}
func (w *world) Later(time.Duration, func()) {}

func (w *world) Prepare(e *errand, _ *worker, then func(*sandbox.Confinement, error)) {
	w.do(e, func() { then(nil, nil) })
}

func (w *world) Touch(e *errand, _ *prior, then func(error)) { w.do(e, func() { then(nil) }) }

func (w *world) Unfollowed() error                        { return nil }
func (w *world) StartUpgrade(*prior)                      {}
func (w *world) StartTakeover(func(control.Response))     {}
func (w *world) Memory() (int64, bool)                    { return w.room, w.room != 0 }
func (w *world) Keep([]*control.Receipt)                  {}
func (w *world) Predecessor() *os.File                    { return nil }
func (w *world) Introduce(from, to seat, id uint64) error { return nil }
func (w *world) CancelUpgrade()                           {}
func (w *world) Commit()                                  { w.core.activate() }
func (w *world) Switched(*control.Receipt)                {}
func (w *world) Reloading()                               {}
func (w *world) Exit(status int)                          { w.exited, w.status = true, status }

func (w *world) Spawn(wk *worker, _ *sandbox.Confinement) (process, int, error) {
	p := &fakeProc{t: w.t, world: w, w: wk, has: make(map[lease]bool), plain: make(map[lease]bool)}
	w.procs = append(w.procs, p)
	return p, 1000 + len(w.procs), nil
}

// checkWithdraw holds the rule: another loop that lives accepts from the shard
// already, or the shard is about to be closed.
func (w *world) checkWithdraw(from *fakeProc, le lease) {
	w.t.Helper()
	if g := w.core.groups[le.key]; g == nil || g.closing(le.index) {
		return
	}
	for _, p := range w.procs {
		if p.w.proc != process(p) {
			continue // dead, and the core has heard of it
		}
		for other := range p.has {
			if other.key == le.key && other.index == le.index && (p != from || other.slot != le.slot) {
				return
			}
		}
	}
	w.t.Errorf("%v is withdrawn from generation %d and nobody else accepts from it", le, from.w.gen.id)
}

// start begins the first change.
func (w *world) start(conf *config.Config) {
	w.conf = conf
	w.core.change = &change{action: "start", started: w.core.now, fatal: true}
	w.core.bringUp(conf)
}

func (w *world) reload(conf *config.Config) {
	w.conf = conf
	w.core.request(request{action: "reload", asker: asker{tell: func(r control.Response) {
		w.answers = append(w.answers, r.Receipt)
	}}})
}

// actions lists what could happen next, apart from faults and requests.
func (w *world) actions() []func() {
	var fs []func()
	for _, p := range w.procs {
		if p.w.proc != process(p) {
			continue
		}
		switch {
		case p.dead:
			fs = append(fs, func() { w.core.workerExited(p.w, "killed") })
		case p.w.state == starting && w.ready:
			fs = append(fs, func() { w.core.workerReady(p.w) })
		case len(p.inbox) > 0:
			fs = append(fs, p.step)
		case p.drain && len(p.has) == 0:
			fs = append(fs, func() { p.dead = true; w.core.workerExited(p.w, "exit status 0") })
		}
	}
	return fs
}

// pass lets time go by.
func (w *world) pass(d time.Duration) {
	w.core.now = w.core.now.Add(d)
	w.core.tick(false)
}

// settle lets everything happen until nothing more does.
func (w *world) settle() {
	w.t.Helper()
	quiet := 0
	for i := 0; quiet < 200; i++ {
		if i > 100_000 {
			w.t.Fatal("the service does not come to rest")
		}
		if fs := w.actions(); len(fs) > 0 {
			w.moved = true
			fs[w.random.IntN(len(fs))]()
			if w.moved {
				quiet = 0
			}
			continue
		}
		w.pass(20 * time.Millisecond)
		quiet++
	}
	w.checkRest()
}

// checkRest holds what must be true when nothing is in progress: one generation,
// each slot with its own shard of every listener, and nothing else lent.
func (w *world) checkRest() {
	w.t.Helper()
	c := w.core
	if c.change != nil {
		w.t.Errorf("a change is in progress: %+v", c.change)
	}
	if len(c.gens) != 1 || c.gens[0].state != serving {
		w.t.Errorf("%d generations, want one that serves", len(c.gens))
		for key, g := range c.groups {
			w.t.Logf("group %s: %d listening, retiring %+v, refused %v", key, g.Listening(), g.retiring, g.Refused())
		}
		for _, g := range c.gens {
			for _, wk := range g.workers {
				w.t.Logf("generation %d %s: worker %d %s, proc %v, leases %v, waiting %v", g.id, g.state, wk.index, wk.state, wk.proc != nil, wk.leases, wk.waiting)
			}
		}
		return
	}
	conf := c.gens[0].conf
	want := make(map[lease]bool)
	for i := range conf.Listeners {
		l := &conf.Listeners[i]
		g := c.groups[l.Key()]
		n := l.Sockets(conf.Slots())
		steered := n
		if g != nil && g.Policy() == config.SteerHash {
			steered = 0
		}
		if g == nil || g.Len() != n || g.Listening() != n || g.retiring != nil || g.Steered() != steered || g.Refused() {
			w.t.Errorf("listener %s: %+v, want %d listening shards", l.Key(), g, n)
			continue
		}
		for s := range conf.Slots() {
			want[lease{l.Key(), s % n, s}] = true
		}
	}
	if len(c.groups) != len(conf.Listeners) {
		w.t.Errorf("%d groups for %d listeners", len(c.groups), len(conf.Listeners))
	}
	for _, p := range w.procs {
		if p.dead {
			continue
		}
		for le := range p.has {
			if !want[le] {
				w.t.Errorf("worker %d of generation %d has %v, which nobody should", p.w.index, p.w.gen.id, le)
			}
			l := p.w.gen.listener(le.key)
			if n := l.Sockets(conf.Slots()); l.Accept != config.AcceptShared && le.index+n < conf.Slots() && p.plain[le] {
				w.t.Errorf("worker %d of generation %d is woken by every connection of %v", p.w.index, p.w.gen.id, le)
			}
			delete(want, le)
		}
	}
	for le := range want {
		w.t.Errorf("nobody accepts from %v", le)
	}
}

// ports returns loopback ports that are free now.
func ports(t *testing.T, n int) []int {
	t.Helper()
	var out []int
	for range n {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		out = append(out, l.Addr().(*net.TCPAddr).Port)
	}
	return out
}

// configure makes a configuration with an echo listener on each port.
func configure(workers, threads int, ports ...int) *config.Config {
	c := &config.Config{
		Workers: workers, Threads: threads, DrainTimeout: 30 * time.Second,
		StartTimeout: 10 * time.Second, WorkerTimeout: 5 * time.Second,
		SHA256: fmt.Sprint(workers, threads, ports),
	}
	for i, port := range ports {
		c.Listeners = append(c.Listeners, config.Listener{
			Name: fmt.Sprintf("l%d", i), Network: "tcp4", Address: fmt.Sprintf("127.0.0.1:%d", port),
			Accept: config.AcceptReuseport, Backlog: 64, Echo: &config.Echo{},
		})
	}
	return c
}

// exclusively has the listeners of c shared with accept: exclusive.
func exclusively(c *config.Config) *config.Config {
	for i := range c.Listeners {
		c.Listeners[i].Accept = config.AcceptExclusive
	}
	return c
}
