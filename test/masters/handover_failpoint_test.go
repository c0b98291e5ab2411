package masters

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"reuseportd/internal/control"
	"reuseportd/test/harness"
	"reuseportd/test/kit"
	"reuseportd/test/meter"
)

// handoverPoints are the steps of a handover, in their order, each with who
// reaches it.
var handoverPoints = []struct{ point, who string }{
	{"handover-offer", "giver"},    // about to be sent: the giver's
	{"handover-offered", "giver"},  // sent: the taker's, unless it dies before it answers
	{"handover-taken", "taker"},    // made, not answered: the giver's, unless that one dies
	{"handover-begin", "taker"},    // answered: the taker's
	{"handover-answered", "giver"}, // and the giver knows
}

// Who owns a connection at each point decides what is lost when somebody is killed
// there: all connections of the offer, or none.
func TestPartiesKilledInHandover(t *testing.T) {
	const none, all = false, true
	for _, tt := range []struct {
		point, killed string
		lost          bool
	}{
		{"handover-offer", "giver", all},
		{"handover-offer", "taker", none},
		{"handover-offer", "master", none},
		{"handover-offered", "giver", none},
		{"handover-offered", "taker", all},
		{"handover-offered", "master", none},
		{"handover-taken", "giver", none},
		{"handover-taken", "taker", none},
		{"handover-taken", "giver and taker", all},
		{"handover-taken", "master", none},
		{"handover-taken", "master and giver", none},
		{"handover-taken", "master and taker", none},
		{"handover-begin", "giver", none},
		{"handover-begin", "taker", all},
		{"handover-begin", "master", none},
		{"handover-answered", "giver", none},
		{"handover-answered", "taker", all},
		{"handover-answered", "master", none},
	} {
		for _, change := range kit.BothChanges {
			t.Run(fmt.Sprintf("%s at %s, %s killed", change, tt.point, tt.killed), func(t *testing.T) {
				h := beginHandover(t, change, tt.point)
				h.kill(tt.killed)
				want := 0
				if tt.lost {
					want = len(h.conns)
				}
				h.end(want)
			})
		}
	}
}

// held is a handover of one worker's connections to another's, which is held at
// some point.
type held struct {
	t            *testing.T
	s            *harness.Server
	conns        []*kit.Client
	point        string
	giver, taker int
}

// beginHandover makes a change, with connections that are all in one offer.
func beginHandover(t *testing.T, change, point string) *held {
	t.Helper()
	return beginHandoverOf(t, change, point, func(c harness.Config) (harness.Config, func(i int) *kit.Client) {
		return c, func(i int) *kit.Client { return kit.Dial(t, c.Address([]string{"web", "echo"}[i%2])) }
	})
}

// beginHandoverOf does so with connections of some kind.
func beginHandoverOf(t *testing.T, change, point string, kind func(harness.Config) (harness.Config, func(i int) *kit.Client)) *held {
	t.Helper()
	c, dial := kind(harness.Default(t).WithWorkers(1).With("worker_timeout: 1m"))
	h := &held{t: t, s: harness.Start(t, c), point: point}
	for i := range 20 {
		conn := dial(i)
		conn.Prove(i)
		h.conns = append(h.conns, conn)
	}
	h.giver = h.s.Workers()[0]
	h.s.Arm(point, harness.Pause)
	go h.s.Ask(change) // the master that is asked may be killed
	at := h.s.WaitHit(point)
	st := h.s.WaitGeneration(2)
	h.taker = kit.Pids(st)[0]
	if at != h.giver && at != h.taker {
		t.Fatalf("process %d is at %s, want %d or %d", at, point, h.giver, h.taker)
	}
	return h
}

// kill kills parties, lets the others go on, and has the connections be where they
// will stay: with one generation, under a master.
func (h *held) kill(parties string) {
	h.t.Helper()
	if h.point == "handover-offered" {
		// The giver is held; that the connections live says that the taker has
		// answered and begun.
		for i, conn := range h.conns {
			if err := conn.Prove(i); err != nil {
				h.t.Fatalf("connection %d was not taken: %v", i, err)
			}
		}
	}
	master := strings.Contains(parties, "master")
	if master {
		h.s.Kill9Master()
	}
	for name, pid := range map[string]int{"giver": h.giver, "taker": h.taker} {
		if strings.Contains(parties, name) {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				h.t.Fatal(err) // a giver that is told that all is taken has gone by itself
			}
			h.s.Wait("the "+name+" to be gone", func() bool { return harness.Gone(pid) })
		}
	}
	h.s.Disarm(h.point)
	if master {
		m := h.s.RunMaster()
		h.s.WaitAlone(m.PID())
		return
	}
	h.s.WaitStatus("the deaths to be noticed", func(st *control.Status) bool {
		for _, g := range st.Groups {
			for _, w := range g.Workers {
				if strings.Contains(parties, "taker") && w.PID == h.taker {
					return false
				}
			}
		}
		return true
	})
	h.s.WaitServing(2)
}

// end wants so many connections lost, all others whole, and all of them counted.
func (h *held) end(want int) {
	h.t.Helper()
	lost := 0
	for i, conn := range h.conns {
		if err := conn.Prove(i); err != nil {
			if lost++; lost > want {
				h.t.Errorf("connection %d: %v", i, err)
			}
		}
	}
	if lost != want {
		h.t.Errorf("%d connections are lost, want %d of %d", lost, want, len(h.conns))
	}
	st := h.s.Status()
	if n := open(st, st.Generation); n != uint64(len(h.conns)-lost) {
		h.t.Errorf("%d connections are counted as open, want %d", n, len(h.conns)-lost)
	}
	for _, conn := range h.conns {
		conn.Close()
	}
	h.s.WaitStatus("all connections to be counted as closed", allClosed)
	h.s.Stop()
}

func allClosed(st *control.Status) bool { return open(st, st.Generation) == 0 }

// Each point is held while clients of every kind go on.
func TestHandoverHeldOpen(t *testing.T) {
	for _, p := range handoverPoints {
		for _, change := range kit.BothChanges {
			t.Run(change+" "+p.point, func(t *testing.T) {
				c, mc := everyone(t)
				s := harness.Start(t, c)
				kit.LosingNothing(t, mc, func(m *meter.Meter) {
					s.Arm(p.point, harness.Pause)
					m.Mark("%s, held at %s", change, p.point)
					changed := make(chan *control.Receipt, 1)
					go func() { changed <- s.Change(change) }()
					s.WaitHit(p.point)
					kit.SomeTime()
					m.Mark("%s, let go from %s", change, p.point)
					s.Disarm(p.point)
					if r := <-changed; !r.OK {
						t.Errorf("receipt %+v", r)
					}
					s.WaitServing(2)
				})
				s.Stop()
			})
		}
	}
}

// A handover goes on while the master dies and another one adopts both parties;
// what is on its way to one that drains by then itself ends up with the newest.
func TestAdoptionInMidHandover(t *testing.T) {
	for _, p := range handoverPoints {
		t.Run(p.point, func(t *testing.T) {
			h := beginHandover(t, "reload", p.point)
			h.s.Kill9Master()
			m := h.s.RunMaster()
			h.s.Wait("the new master to have the lock", func() bool { return lockHolder(h.s) == m.PID() })
			h.s.Disarm(p.point) // or it would take the held one for one that hangs
			h.s.WaitAlone(m.PID())
			for range 2 {
				h.s.Reload()
			}
			h.s.WaitServing(5)
			h.end(0)
		})
	}
}
