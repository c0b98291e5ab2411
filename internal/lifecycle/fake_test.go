package lifecycle

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"reuseportd/internal/clients"
	"reuseportd/internal/config"
	"reuseportd/internal/control"
	"reuseportd/internal/stats"
	"reuseportd/internal/upstream"
	"reuseportd/internal/wire"
)

// fakeProc is a worker process that does what it is told when the test lets it.
type fakeProc struct {
	t     *testing.T
	world *world
	w     *worker
	inbox []any
	has   map[lease]bool // what it accepts from
	plain map[lease]bool // those of them that every connection wakes
	drain bool
	dead  bool
}

// current reports whether the process is the one that its place has.
func (p *fakeProc) current() bool { return p.world.running[p.w.id()] == p }

// take puts a message into its inbox.
func (p *fakeProc) take(body any) {
	if p.dead {
		p.world.handle(WorkerMute{p.w.id(), "gone"})
		return
	}
	if b, ok := body.(wire.Withdraw); ok {
		for _, le := range b.Leases {
			p.world.checkWithdraw(p, leaseOf(le))
		}
	}
	p.inbox = append(p.inbox, body)
}

// dies has the core hear of its death.
func (p *fakeProc) dies(status string) {
	p.dead = true
	p.world.handle(WorkerExited{p.w.id(), status})
}

// isReady has the core hear that it is ready.
func (p *fakeProc) isReady() { p.world.handle(WorkerReady{ID: p.w.id()}) }

// step has the process handle one message.
func (p *fakeProc) step() {
	m := p.inbox[0]
	p.inbox = p.inbox[1:]
	says := func(body any) { p.world.handle(WorkerSaid{p.w.id(), body}) }
	switch b := m.(type) {
	case wire.Lend:
		for _, le := range b.Leases {
			if p.has[leaseOf(le)] {
				p.t.Errorf("worker %d of generation %d is lent %v twice", p.w.index, p.w.gen.id, le)
			}
			p.has[leaseOf(le)] = true
			p.plain[leaseOf(le)] = !le.Exclusive
		}
		says(wire.Lent{Seq: b.Seq})
	case wire.Withdraw:
		for _, le := range b.Leases {
			delete(p.has, leaseOf(le))
		}
		says(wire.Withdrawn{Seq: b.Seq})
	case wire.Drain:
		p.drain = true
	case wire.Ping:
		p.world.moved = false // nothing changes by it
		says(wire.Pong{Seq: b.Seq})
	}
}

// world is a core with fake processes and real sockets.
type world struct {
	t       *testing.T
	core    *Core
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
	running map[ID]*fakeProc
	todo    []Action
	acting  bool
	rolled  *Prior // what the latest StartUpgrade goes back to
	observe func(Action)
	instead Event // of the usual answer to the latest action, if observe has set it
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, ready: true, random: rand.New(rand.NewPCG(1, 2)), running: make(map[ID]*fakeProc)}
	w.core = New(zerolog.Nop(), "test", 1, 0, time.Now())
	ledger, err := stats.NewLedger()
	if err != nil {
		t.Fatal(err)
	}
	table, err := clients.New()
	if err != nil {
		t.Fatal(err)
	}
	board, err := upstream.NewBoard()
	if err != nil {
		t.Fatal(err)
	}
	w.handle(Tables{Ledger: ledger, Board: board, Clients: table})
	w.handle(Keeper{})
	t.Cleanup(func() {
		if err := errors.Join(table.Close(), board.Close(), ledger.Close()); err != nil {
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

// handle tells the core of an event at its present time, and does what it wants.
func (w *world) handle(ev Event) {
	w.todo = append(w.todo, w.core.Handle(w.core.now, ev)...)
	if w.acting {
		return
	}
	w.acting = true
	defer func() { w.acting = false }()
	for len(w.todo) > 0 {
		a := w.todo[0]
		w.todo = w.todo[1:]
		if w.observe != nil {
			w.observe(a)
		}
		if ev := w.instead; ev != nil {
			w.instead = nil
			w.handle(ev)
			continue
		}
		w.act(a)
	}
}

// do does an errand at once, or when the test lets it.
func (w *world) do(e *Errand, value any, err error) {
	f := func() { w.handle(Done{e, value, err}) }
	if w.hangs[e.kind] {
		w.late = append(w.late, f)
		return
	}
	f()
}

// act does what the core wants.
func (w *world) act(a Action) {
	switch a := a.(type) {
	case Load:
		if w.conf == nil {
			w.do(a.Errand, nil, errors.New("bad configuration"))
			return
		}
		w.do(a.Errand, w.conf, nil)
	case OpenLogs:
		w.do(a.Errand, noLogs{}, nil)
	case ReadMaterials:
		w.do(a.Errand, nil, nil)
	case Prepare:
		w.do(a.Errand, nil, nil)
	case Touch:
		w.do(a.Errand, nil, nil)
	case Measure:
		w.handle(Measured{Room: w.room, Bounded: w.room != 0})
	case Spawn:
		p := &fakeProc{t: w.t, world: w, w: w.core.worker(a.ID), has: make(map[lease]bool), plain: make(map[lease]bool)}
		w.procs = append(w.procs, p)
		w.running[a.ID] = p
		w.handle(Spawned{ID: a.ID, PID: 1000 + len(w.procs)})
	case Send:
		if p := w.running[a.ID]; p != nil {
			p.take(a.Body)
		}
	case Lend:
		for _, le := range a.Body.Leases {
			if w.core.Shard(le.Key, le.Index) < 0 {
				w.t.Errorf("shard %d of %s is lent and is not there", le.Index, le.Key)
			}
		}
		if p := w.running[a.ID]; p != nil {
			p.take(a.Body)
		}
	case Kill:
		if p := w.running[a.ID]; p != nil {
			p.dead = true
		}
	case Release:
		delete(w.running, a.ID)
	case StartUpgrade:
		w.rolled = a.Back
	case Commit:
		w.handle(Committed{})
	case Exit:
		w.exited, w.status = true, a.Status
	case Tell:
		a.To(a.Response)
	case Discard:
		_ = a.Image.Close()
	}
}

type noLogs struct{}

func (noLogs) Close() {}

// checkWithdraw holds the rule: another loop that lives accepts from the shard
// already, or the shard is about to be closed.
func (w *world) checkWithdraw(from *fakeProc, le lease) {
	w.t.Helper()
	if g := w.core.groups[le.key]; g == nil || g.closing(le.index) {
		return
	}
	for _, p := range w.procs {
		if !p.current() {
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
	w.handle(Begin{Action: "start", Started: w.core.now, Conf: conf, Fatal: true})
}

func (w *world) reload(conf *config.Config) {
	w.conf = conf
	w.handle(Request{Action: "reload", Asker: Asker{Tell: func(r control.Response) {
		w.answers = append(w.answers, r.Receipt)
	}}})
}

// actions lists what could happen next, apart from faults and requests.
func (w *world) actions() []func() {
	var fs []func()
	for _, p := range w.procs {
		if !p.current() {
			continue
		}
		switch {
		case p.dead:
			fs = append(fs, func() { p.dies("killed") })
		case p.w.state == starting && w.ready:
			fs = append(fs, p.isReady)
		case len(p.inbox) > 0:
			fs = append(fs, p.step)
		case p.drain && len(p.has) == 0:
			fs = append(fs, func() { p.dies("exit status 0") })
		}
	}
	return fs
}

// pass lets time go by.
func (w *world) pass(d time.Duration) {
	w.core.now = w.core.now.Add(d)
	w.handle(Tick{})
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
				w.t.Logf("generation %d %s: worker %d %s, proc %v, leases %v, waiting %v", g.id, g.state, wk.index, wk.state, wk.running, wk.leases, wk.waiting)
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
