package lifecycle

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"reuseportd/internal/config"
	"reuseportd/internal/control"
	"reuseportd/internal/wire"
)

var update = flag.Bool("update", false, "write into testdata/*.script what the core does now")

// TestScripts replays the scenarios of testdata. A line is something that happens; the lines with > behind it are what the core
// wants done. With -update they are written anew: then the change of the scripts is to be read.
//
//	config NAME key=value…      workers, threads, listeners (a,b), probation, max_draining
//	start|upgrade NAME          the first change of a master; of one that takes over from another
//	reload NAME|bad             the file has this content, and a reload is asked for
//	request stop|upgrade|…      by a signal
//	hang|release KIND           errands of a kind don't end; do so
//	ready|takes|dies|mute G.I…  a worker is ready; deals with all that it was sent; is dead; takes no message
//	fails G.I TEXT              it says why it can't work
//	commit ERROR                the next Commit is answered with this
//	upgraded ERROR              the next master did not come
//	pass DURATION               time goes by
//	killed|replaced             this master is killed, the next one adopts; has handed over to the next
//	state                       who is in what state, and accepts from which shards
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.script")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts: ", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".script"), func(t *testing.T) {
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := replay(t, string(raw))
			if got == string(raw) {
				return
			}
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			t.Errorf("%s: the core did something else (go test -run TestScripts -update shows it as a diff):\n%s", file, got)
		})
	}
}

// player is a world that writes down what the core wants.
type player struct {
	*world
	confs     map[string]*config.Config
	ports     map[string]int
	names     map[string]string // of listeners, by key
	out       strings.Builder
	commitErr string
}

func replay(t *testing.T, script string) string {
	p := &player{world: newWorld(t), confs: make(map[string]*config.Config), ports: make(map[string]int), names: make(map[string]string)}
	p.ready = false
	p.observe = p.write
	for i, line := range strings.Split(strings.TrimSuffix(script, "\n"), "\n") {
		if strings.HasPrefix(line, ">") {
			continue
		}
		fmt.Fprintln(&p.out, line)
		fields := strings.Fields(line)
		if len(fields) == 0 || fields[0] == "#" {
			continue
		}
		if err := p.play(fields[0], fields[1:]); err != nil {
			t.Fatalf("line %d: %s: %v", i+1, line, err)
		}
	}
	p.observe = nil
	return p.out.String()
}

func (p *player) say(format string, args ...any) { fmt.Fprintf(&p.out, "> "+format+"\n", args...) }

// play has one thing happen.
func (p *player) play(what string, args []string) error {
	rest := strings.Join(args, " ")
	switch what {
	case "config":
		return p.define(args[0], args[1:])
	case "start":
		p.start(p.confs[rest])
	case "upgrade":
		p.handle(Begin{Action: "upgrade", Masters: true, Fatal: true, Started: p.core.now, Conf: p.confs[rest]})
	case "reload":
		p.conf = p.confs[rest] // nil is bad
		p.ask("reload")
	case "request":
		p.ask(rest)
	case "hang":
		p.hangs = map[string]bool{rest: true}
	case "release":
		p.release(rest)
	case "commit":
		p.commitErr = rest
	case "upgraded":
		p.handle(NotUpgraded{Err: errors.New(rest)})
	case "pass":
		d, err := time.ParseDuration(rest)
		if err != nil {
			return err
		}
		p.pass(d)
	case "killed", "replaced":
		p.nextMaster(what == "killed")
	case "state":
		p.state()
	case "fails":
		proc, err := p.proc(args[0])
		if err != nil {
			return err
		}
		p.handle(WorkerFailed{proc.w.id(), strings.Join(args[1:], " ")})
	case "ready", "takes", "dies", "mute":
		for _, name := range args {
			proc, err := p.proc(name)
			if err != nil {
				return err
			}
			p.worker(what, proc)
		}
	default:
		return errors.New("unknown")
	}
	return nil
}

func (p *player) worker(does string, proc *fakeProc) {
	switch does {
	case "ready":
		proc.isReady()
	case "takes":
		for len(proc.inbox) > 0 {
			proc.step()
		}
	case "dies":
		proc.dies("killed by SIGKILL")
	case "mute":
		p.handle(WorkerMute{proc.w.id(), "its queue is full"})
	}
}

func (p *player) ask(action string) {
	p.handle(Request{Action: action, Cause: CauseSignal, Asker: Asker{Tell: func(r control.Response) {
		switch {
		case r.Receipt == nil:
			p.say("answer: refused: %s", r.Error)
		case r.Receipt.OK:
			p.say("answer: %s done, generation %d in place of %d", r.Receipt.Action, r.Receipt.Generation, r.Receipt.Previous)
		default:
			p.say("answer: %s failed, generation %d serves: %s", r.Receipt.Action, r.Receipt.Generation, p.named(r.Receipt.Error))
		}
	}}})
}

// define makes a configuration.
func (p *player) define(name string, args []string) error {
	conf := configure(1, 1)
	conf.SHA256, conf.MaxDraining = name, 8
	for _, arg := range args {
		key, value, _ := strings.Cut(arg, "=")
		var err error
		switch key {
		case "workers":
			conf.Workers, err = strconv.Atoi(value)
		case "threads":
			conf.Threads, err = strconv.Atoi(value)
		case "max_draining":
			conf.MaxDraining, err = strconv.Atoi(value)
		case "probation":
			conf.Probation, err = time.ParseDuration(value)
		case "listeners":
			for _, l := range strings.Split(value, ",") {
				if p.ports[l] == 0 {
					p.ports[l] = ports(p.t, 1)[0]
				}
				one := configure(1, 1, p.ports[l]).Listeners[0]
				one.Name = l
				conf.Listeners = append(conf.Listeners, one)
				p.names[one.Key()] = l
			}
		default:
			err = errors.New("unknown key " + key)
		}
		if err != nil {
			return err
		}
	}
	p.confs[name] = conf
	return nil
}

// proc returns the process of a place, as in 2.0.
func (p *player) proc(name string) (*fakeProc, error) {
	var id ID
	if _, err := fmt.Sscanf(name, "%d.%d", &id.Generation, &id.Index); err != nil {
		return nil, err
	}
	if proc := p.running[id]; proc != nil {
		return proc, nil
	}
	return nil, fmt.Errorf("worker %s has no process", name)
}

func (id ID) String() string { return fmt.Sprintf("%d.%d", id.Generation, id.Index) }

// named has names in place of addresses.
func (p *player) named(text string) string {
	for name, port := range p.ports {
		text = strings.ReplaceAll(text, fmt.Sprintf("127.0.0.1:%d", port), name)
	}
	return text
}

// write writes down what the core wants.
func (p *player) write(a Action) {
	switch a := a.(type) {
	case Spawn:
		p.say("spawn %s for slots %v", a.ID, a.Slots)
	case Lend:
		p.say("lend %s: %s", a.ID, p.leases(a.Body.Leases))
	case Send:
		switch b := a.Body.(type) {
		case wire.Withdraw:
			p.say("withdraw from %s: %s", a.ID, p.leases(b.Leases))
		case wire.Drain:
			p.say("drain %s within %s", a.ID, time.Duration(b.TimeoutMS)*time.Millisecond)
		case wire.Ping:
		default:
			p.say("send %s %s", a.ID, a.Kind)
		}
	case Kill:
		p.say("signal %d to %s", a.Signal, a.ID)
	case Introduce:
		p.say("introduce %s to %s, its heir", a.From.ID, a.To.ID)
	case Forget:
		p.say("generation %d is gone", a.Generation)
	case StartUpgrade:
		if a.Back != nil {
			p.say("start the binary of before")
		} else {
			p.say("start the next master")
		}
	case CancelUpgrade:
		p.say("give up the next master")
	case Commit:
		p.say("become the master that counts")
		if p.commitErr != "" {
			p.instead = Committed{errors.New(p.commitErr)}
		}
	case Exit:
		p.say("exit with status %d", a.Status)
	case Discard:
		p.say("let go of the binary of before")
	}
}

// leases names shards, and by which slots they are accepted from.
func (p *player) leases(all []wire.Lease) string {
	var out []string
	for _, le := range all {
		out = append(out, fmt.Sprintf("%s[%d] in slot %d", p.names[le.Key], le.Index, le.Slot))
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// state tells of all that lives.
func (p *player) state() {
	for _, g := range p.core.gens {
		p.say("generation %d (%s) is %s", g.id, g.conf.SHA256, g.state)
		for _, w := range g.workers {
			var has []wire.Lease
			if proc := p.running[w.id()]; proc != nil {
				for le := range proc.has {
					has = append(has, le.wire())
				}
			}
			p.say("  worker %s is %s: %s", w.id(), w.state, p.leases(has))
		}
	}
	named := make(map[string]*group) // ports differ from run to run
	for key, g := range p.core.groups {
		named[p.names[key]] = g
	}
	for _, name := range slices.Sorted(maps.Keys(named)) {
		p.say("%s listens with %d of %d shards", name, named[name].Listening(), named[name].Len())
	}
}

// nextMaster goes on with a new core, which has what a next master would: of a killed one, or of one that has handed over.
func (p *player) nextMaster(killed bool) {
	old := p.core
	next := New(old.log, "next", 2, 0, old.now)
	next.now = old.now
	in := Inherit{Numbers: old.Numbers(), Killed: killed}
	in.Numbers.Action = ""
	for _, g := range old.Generations() {
		for i := range g.Workers {
			w := &g.Workers[i]
			w.Leases, w.Waiting = old.Leases(ID{g.ID, w.Index})
			if killed {
				w.Waiting = nil
				if w.State != string(backoff) {
					w.State = Adopted(g.State)
				}
			}
		}
		if killed {
			g.State = Adopted(g.State)
		}
		in.Generations = append(in.Generations, g)
	}
	if killed {
		for _, s := range old.Sockets() {
			in.Sockets = append(in.Sockets, Sockets{Group: s.Group})
		}
	}
	p.core = next
	p.handle(Tables{Ledger: old.ledger, Board: old.board, Clients: old.clients})
	if !killed {
		p.handle(TakeSockets{Sockets: old.Sockets(), Numbers: in.Numbers})
	}
	p.handle(in)
	p.handle(Established{})
	for id, proc := range p.running {
		proc.w = next.worker(id)
	}
}
