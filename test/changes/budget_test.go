package changes

import (
	"fmt"
	"strings"
	"testing"

	"reuseportd/internal/control"
	"reuseportd/test/harness"
	"reuseportd/test/kit"
)

// receiptOf is the receipt of the change that replaced a generation.
func receiptOf(st *control.Status, generation uint64) *control.Receipt {
	for _, r := range st.Receipts {
		if r.OK && r.Previous == generation && r.Generation != generation {
			return r
		}
	}
	return &control.Receipt{}
}

// draining are the generations that drain.
func draining(st *control.Status) (ids []uint64) {
	for _, g := range st.Groups {
		if g.State == "draining" {
			ids = append(ids, g.ID)
		}
	}
	return ids
}

// Each generation is kept by a client of a listener that the next one doesn't have.
// With one more than may drain, the oldest is ended, and no other.
func TestMaxDraining(t *testing.T) {
	for _, change := range kit.BothChanges {
		t.Run(change, func(t *testing.T) {
			c := harness.Default(t).With("max_draining: 2", "drain_timeout: 2m", "probation: 0s")
			var configs []harness.Config
			var addresses []string
			for range 5 {
				both, more := kit.Without(t, c)
				configs, addresses = append(configs, both), append(addresses, more)
			}
			s := harness.Start(t, configs[0])
			stream := kit.Echoes(t, c.Address("echo"), 1)[0]
			pins := [][]*kit.Client{kit.Echoes(t, addresses[0], 3)}
			for i := 1; i < 5; i++ {
				s.WriteConfig(configs[i])
				if r := s.Change(change); !r.OK {
					t.Fatalf("receipt %+v", r)
				}
				pins = append(pins, kit.Echoes(t, addresses[i], 3))
				for old, conns := range pins {
					for _, conn := range conns {
						if old == i-3 {
							conn.WantEnd()
						} else if old > i-3 {
							conn.Echo("not the oldest")
						}
					}
				}
				if i < 3 {
					continue
				}
				st := s.WaitStatus("two generations to drain", func(st *control.Status) bool { return len(draining(st)) == 2 })
				if got, want := fmt.Sprint(draining(st)), fmt.Sprint([]int{i - 1, i}); got != want {
					t.Errorf("generations %s drain, want %s", got, want)
				}
				if r := receiptOf(st, uint64(i-2)); !r.Drained || r.Cut != 3 || r.Finished > 0 {
					t.Errorf("receipt of the change from generation %d: %+v, want 3 cut", i-2, r)
				}
			}
			if n := strings.Count(s.Log(), "too many generations drain: the oldest is ended"); n != 2 {
				t.Errorf("the log tells of %d generations that were ended, want 2", n)
			}
			stream.Echo("through it all")
			if st := s.Status(); st.Totals.Cut != 6 {
				t.Errorf("%d cut in all, want 6", st.Totals.Cut)
			}
		})
	}
}

// The next configuration's bound is the one that counts.
func TestMaxDrainingLowered(t *testing.T) {
	c := harness.Default(t).With("drain_timeout: 2m", "probation: 0s")
	var pins []*kit.Client
	var s *harness.Server
	for i := range 4 {
		both, more := kit.Without(t, c)
		if s == nil {
			s = harness.Start(t, both)
		} else {
			s.WriteConfig(both)
			s.Reload()
		}
		pins = append(pins, kit.Echoes(t, more, i+1)...)
	}
	s.WaitStatus("three generations to drain", func(st *control.Status) bool { return len(draining(st)) == 3 })
	s.WriteConfig(c.With("max_draining: 1"))
	s.Reload()
	for _, conn := range pins[:6] {
		conn.WantEnd()
	}
	for _, conn := range pins[6:] {
		conn.Echo("the latest")
	}
	st := s.WaitStatus("one generation to drain", func(st *control.Status) bool { return len(draining(st)) == 1 })
	for g := uint64(1); g <= 3; g++ {
		if r := receiptOf(st, g); r.Cut != g || !r.Drained {
			t.Errorf("receipt of the change from generation %d: %+v", g, r)
		}
	}
}

func TestDrainTimeoutIsCounted(t *testing.T) {
	for _, change := range kit.BothChanges {
		t.Run(change, func(t *testing.T) {
			c := harness.Default(t).With("drain_timeout: 2s")
			both, more := kit.Without(t, c)
			s := harness.Start(t, both)
			stream, pins := kit.Echoes(t, c.Address("echo"), 1)[0], kit.Echoes(t, more, 4)
			s.WriteConfig(c)
			answered := drainedInBackground(s, change)
			for _, conn := range pins {
				conn.WantEnd()
			}
			if r := <-answered; kit.ParseReceipt(t, r.Stdout).Cut != 4 {
				t.Errorf("receipt %s%s, want 4 cut", r.Stdout, r.Stderr)
			}
			if !strings.Contains(s.Log(), "drain_timeout has passed; what was open is cut") {
				t.Error("the log doesn't say so")
			}
			stream.Echo("after it")
			if st := s.WaitServing(2); st.Totals.Cut != 4 {
				t.Errorf("%d cut in all, want 4", st.Totals.Cut)
			}
		})
	}
}

// tellApart asks on each connection until it is clear whether it went along: n of
// them must have, the others are told to close. None may be lost.
func tellApart(t *testing.T, conns []*kit.Client, n int) (kept []*kit.Client) {
	t.Helper()
	for _, conn := range conns {
		closed := false
		for range 3 { // of those that stay, each third answer at the latest says so
			resp, text := conn.Get()
			if text != "hello\n" {
				t.Fatalf("answer %q", text)
			}
			if closed = resp.Close; closed {
				conn.WantEOF()
				break
			}
		}
		if !closed {
			kept = append(kept, conn)
		}
	}
	if len(kept) != n {
		t.Errorf("%d of %d connections went along, want %d", len(kept), len(conns), n)
	}
	return kept
}

// What the next generation has no room for stays, is told so with its next answer, and
// is nobody's loss.
func TestNoRoomForAll(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change string
		next   []string // configuration lines of the next generation
		n      int      // connections
		fit    int
	}{
		{"max_connections", "reload", []string{"max_connections: 10"}, 40, 10},
		{"max_connections", "upgrade", []string{"max_connections: 10"}, 40, 10},
	} {
		t.Run(tt.name+" "+tt.change, func(t *testing.T) {
			c := harness.Default(t).WithWorkers(1).With("drain_timeout: 1m", "probation: 0s")
			s := harness.Start(t, c)
			conns := webs(t, c.Address("web"), tt.n)
			s.WriteConfig(c.With(tt.next...))
			answered := drainedInBackground(s, tt.change)
			s.WaitGeneration(2)
			s.WaitLog("the next generation has no room for more connections")
			kept := tellApart(t, conns, tt.fit)
			r := <-answered
			if got := kit.ParseReceipt(t, r.Stdout); got.HandedOver != uint64(tt.fit) || got.Finished != uint64(tt.n-tt.fit) || got.Cut > 0 {
				t.Errorf("receipt %+v, want %d handed over and %d finished", got, tt.fit, tt.n-tt.fit)
			}
			st := s.WaitServing(2)
			if st.Totals.AcceptNoFD > 0 || st.Totals.TakenOver != uint64(tt.fit) || kit.Only(t, st).Connections != uint64(tt.fit) {
				t.Errorf("totals %+v, %d connections", st.Totals, kit.Only(t, st).Connections)
			}
			if log := s.Log(); strings.Contains(log, "too many open files") || strings.Contains(log, "truncated") {
				t.Error("the taker met the descriptor limit")
			}
			// Those inside are served on, and leave room for others.
			for _, conn := range kept {
				conn.Get()
				conn.Close()
			}
			kit.Dial(t, c.Address("web")).Get()
		})
	}
}
