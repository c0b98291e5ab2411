package serving

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/control"
	"reuseportd/test/harness"
	"reuseportd/test/kit"
	"reuseportd/test/meter"
)

// strategies are the ways in which loops share a listener, each the lines of its
// own.
var strategies = []struct {
	name, keys string
	sockets    func(slots int) int
}{
	{"reuseport", "accept: reuseport", func(slots int) int { return slots }},
	{"exclusive", "accept: exclusive", func(int) int { return 1 }},
	{"mutex", "accept: mutex", func(int) int { return 1 }},
	{"shared", "accept: shared", func(int) int { return 1 }},
	{"reuseport, deferred", "defer_accept: true", func(slots int) int { return slots }},
	{"reuseport and exclusive", "shards: 2", func(slots int) int { return min(slots, 2) }},
}

// models are workers and threads.
var models = []struct {
	name             string
	workers, threads int
}{
	{"single", 1, 1},
	{"processes", 3, 1},
	{"threads", 1, 3},
}

// sharedBy returns c with listeners that are accepted from in another way.
func sharedBy(c harness.Config, keys string) harness.Config {
	listeners := slices.Clone(c.Listeners)
	for i := range listeners {
		listeners[i].Service = keys + "\n    " + listeners[i].Service
	}
	return c.WithListeners(listeners...)
}

// Each strategy with each model, changed from one to the next by reload, with more and
// fewer loops, and an upgrade in each: every connection is served, and once.
func TestStrategies(t *testing.T) {
	for _, model := range models {
		t.Run(model.name, func(t *testing.T) {
			c := harness.Default(t).WithWorkers(model.workers)
			c.Threads = model.threads
			s := harness.Start(t, c)
			mc := kit.Clients(c)
			mc.Strict = true
			mc.Idle = 50
			r := kit.LosingNothing(t, mc, func(m *meter.Meter) {
				for _, how := range append(slices.Clone(strategies), strategies[0]) {
					for _, more := range []int{1, 0} {
						m.Mark("%s, %d more workers", how.name, more)
						grown := c.WithWorkers(model.workers + more)
						s.WriteConfig(sharedBy(grown, how.keys))
						s.Reload()
						want := how.sockets(grown.Workers * grown.Threads)
						s.WaitStatus(fmt.Sprintf("%d sockets, shared by %s", want, how.name), func(st *control.Status) bool {
							l := harness.ListenerAt(st, c.Address("web"))
							return l.Shards == want && l.Retiring == 0
						})
					}
					m.Mark("%s, upgrade", how.name)
					s.Upgrade()
				}
			})
			accepted := s.Status().Totals.Accepted
			made := uint64(len(mc.Paths)) // asked for once before the clients begin
			for _, k := range r.Kinds {
				made += uint64(k.Connections)
			}
			if accepted != made {
				t.Errorf("accepted %d connections, clients made %d", accepted, made)
			}
		})
	}
}

// A worker without descriptors keeps no connection from those that have some. Each is
// made when the one before was served: no later one wakes the others for it.
func TestStrategiesWithoutDescriptors(t *testing.T) {
	for _, how := range strategies[1:4] {
		t.Run(how.name, func(t *testing.T) {
			c := harness.Default(t).WithWorkers(2).AsRoot()
			s := harness.Start(t, sharedBy(c, how.keys))
			poor := s.Workers()[0]
			fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", poor))
			kit.Must(t, err)
			top := 0
			for _, e := range fds {
				n, err := strconv.Atoi(e.Name())
				kit.Must(t, err)
				top = max(top, n)
			}
			limit := unix.Rlimit{Cur: uint64(top) + 1, Max: uint64(top) + 1} // what is open stays usable
			kit.Must(t, unix.Prlimit(poor, unix.RLIMIT_NOFILE, &limit, nil))
			for range 4 { // some numbers below may be free: these use them up
				kit.Dial(t, c.Address("web")).Get()
			}
			for range 60 { // both have their turn, if only by queueing again
				conn := kit.Dial(t, c.Address("web"))
				conn.Send(kit.Get)
				if code, text := conn.Get2(); code != 200 || text != "hello\n" {
					t.Fatalf("answer %d %q", code, text)
				}
				conn.Close()
				time.Sleep(5 * time.Millisecond) // nothing tells that its worker waits again
			}
			if n := s.Status().Totals.AcceptNoFD; n == 0 && how.name == "exclusive" {
				t.Error("no worker has been short of descriptors")
			}
		})
	}
}

// Workers that are killed, the one that holds the mutex among them, lose what was
// inside them and stop nobody.
func TestStrategiesCrash(t *testing.T) {
	for _, how := range strategies {
		t.Run(how.name, func(t *testing.T) {
			c := harness.Default(t).WithWorkers(3)
			s := harness.Start(t, sharedBy(c, how.keys))
			mc := kit.Clients(c)
			mc.Kept, mc.Halves, mc.Pipeline, mc.Stream, mc.Burst = 0, 0, 0, 0, 0
			kit.Killing(t, s, mc, 3, mc.Fresh) // one of them holds the mutex
		})
	}
}

// Without a master a mutex is taken from its dead holder by those who wait for it.
func TestMutexHolderDiesWithoutMaster(t *testing.T) {
	for first := range 2 { // the holder is killed first in one of them, or it is the last
		t.Run(fmt.Sprintf("first=%d", first), func(t *testing.T) {
			c := harness.Default(t).WithWorkers(3)
			s := harness.Start(t, sharedBy(c, "accept: mutex"))
			s.Kill9Master()
			for _, pid := range s.AllWorkers()[first : first+2] {
				s.KillWorkers(pid)
				for range 3 {
					conn := kit.Dial(t, c.Address("web"))
					conn.Send(kit.Get)
					if code, text := conn.Get2(); code != 200 || text != "hello\n" {
						t.Errorf("answer %d %q", code, text)
					}
				}
			}
			kit.Adopts(t, s)
			kit.LosingNothing(t, kit.Clients(c), func(*meter.Meter) { s.Reload() })
		})
	}
}
