package hostile

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/control"
	"reuseportd/test/harness"
)

// What is played in a round, and whether that worker's connections may be lost.
var hostiles = []struct {
	name  string
	loses bool
}{
	{"worker", true},
	{"orphan", true},
	{"memory", false},
	{"master", false},
	{"rescues", false},
	{"control", false},
	{"local", false},
}

// What is done to the server in a round.
var changes = []string{"nothing", "reload", "upgrade", "kill master", "kill worker", "takeover"}

// round plays some hostiles beside a change, and wants the server whole afterwards.
func (p *play) round(n int, only string) {
	settled := p.settled()
	var played []string
	loses := false
	for _, i := range p.r.Perm(len(hostiles))[:1+p.r.IntN(3)] {
		if only != "" && only != hostiles[i].name {
			continue
		}
		played = append(played, hostiles[i].name)
		loses = loses || hostiles[i].loses
	}
	change := pick(p.r, changes)
	if loses && strings.Contains(strings.Join(played, " "), "orphan") {
		change = "kill master" // else it isn't one
	}
	what := fmt.Sprintf("round %d: %s; %s", n, strings.Join(played, ", "), change)
	if loses || change == "kill worker" {
		what = mayLose + what
	}
	p.clients.Mark("%s", what)
	p.t.Log(time.Now().Format("15:04:05.000"), what)
	serving := harness.Serving(settled)
	victim := serving.Workers[p.r.IntN(len(serving.Workers))]
	l, err := rob(victim.PID, victim.Slot, serving.ID)
	if err != nil {
		p.t.Fatalf("%s: %v", what, err)
	}
	closed := sync.OnceFunc(l.Close)
	defer closed()                         // if the test fails
	if slices.Contains(played, "orphan") { // before anybody has it ended
		harness.StopProcess(p.t, victim.PID)
	}
	began := time.Now()
	end := began.Add(time.Duration(500+p.r.IntN(2000)) * time.Millisecond)
	var all sync.WaitGroup
	done := make(chan struct{})
	for _, name := range played {
		p.account.count("played: " + name)
		r := rand.New(rand.NewPCG(p.r.Uint64(), 0))
		all.Go(func() { p.act(name, r, l, end) })
	}
	var sampler sync.WaitGroup
	sampler.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(100 * time.Millisecond):
				p.worst.sample(p.s)
			}
		}
	})
	p.change(change, what, strings.Contains(what, "master,") || strings.Contains(what, "master;"))
	all.Wait()
	close(done)
	sampler.Wait()
	// A duplicate of a shard that the master hasn't got back has a share of the connections for as
	// long as it is open: they end with it, still in this round.
	closed()
	if loses || change == "kill worker" {
		_ = unix.Kill(victim.PID, unix.SIGKILL) // it is spoilt
		p.s.Wait("the spoilt worker to end", func() bool { return harness.Gone(victim.PID) })
		p.s.WaitStatus("the spoilt worker to be replaced", func(st *control.Status) bool {
			g := harness.Serving(st)
			return g != nil && !slices.ContainsFunc(g.Workers, func(w control.Worker) bool { return w.PID == victim.PID })
		})
	}
	p.settled()
	p.log.look(p.account, time.Since(began), what)
	if harness.Gone(p.bystander) {
		p.t.Errorf("%s: the bystander was ended", what)
	}
}

func (p *play) act(name string, r *rand.Rand, l *loot, end time.Time) {
	a, dir := p.account, p.s.RuntimeDir
	switch name {
	case "worker":
		l.talk(r, a, p.null, end)
	case "orphan":
		l.answer(r, a, p.null, p.bystander, end.Add(10*time.Second))
	case "memory":
		l.spoil(r, a, end)
	case "local":
		var both sync.WaitGroup
		for _, uid := range []uint32{65533, 65534} { // a stranger, and the workers' user
			seed := r.Uint64()
			both.Go(func() { runLocal(a, dir, uid, seed, time.Until(end)) })
		}
		both.Wait()
	default:
		for time.Now().Before(end) {
			switch name {
			case "master":
				takeOver(r, a, dir, p.null, end)
				time.Sleep(20 * time.Millisecond) // each is a change, and in the log
			case "rescues":
				callRescues(r, a, dir, p.null)
				time.Sleep(10 * time.Millisecond)
			case "control":
				pester(r, a, dir)
			}
		}
	}
}

// change makes one. It may fail only where another one is under way all the time.
func (p *play) change(change, what string, contended bool) {
	p.account.count("change: " + change)
	switch change {
	case "reload", "upgrade":
		if r := p.s.Change(change); !r.OK && !contended {
			p.account.fault("%s: %s", what, r.Error)
		}
	case "kill master":
		p.s.Kill9Master()
		m := p.s.RunMaster()
		p.s.WaitMaster(m.PID())
		p.account.add("adopted", strings.Count(m.Log(), "were found and are this one's now"))
	case "takeover":
		m := p.s.RunMaster("--takeover")
		if contended { // it is one of many, and may come too late
			p.s.Wait("the next master to win or end", func() bool {
				st, err := p.s.TryStatus()
				return m.Exited() || err == nil && st.PID == m.PID()
			})
			return
		}
		p.s.WaitMaster(m.PID())
	}
}

// settled waits until one generation serves with all its workers.
func (p *play) settled() *control.Status {
	return p.s.WaitStatus("the service to be whole", func(st *control.Status) bool {
		g := harness.Serving(st)
		return st.Change == "" && g != nil && len(st.Groups) == 1 && len(g.Workers) == 3
	})
}
