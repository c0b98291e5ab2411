package changes

import (
	"syscall"
	"testing"

	"reuseportd/internal/control"
	"reuseportd/test/harness"
	"reuseportd/test/kit"
	"reuseportd/test/meter"
)

// Connections that wait in the queue of a worker that dies are served by its
// replacement, for the master kept the socket.
func TestKilledWorkersQueueIsServed(t *testing.T) {
	c := harness.Default(t).With("worker_timeout: 1m")
	s := harness.Start(t, c)
	pid := s.Workers()[0]
	harness.StopProcess(t, pid)
	var conns []*kit.Client
	for range 200 {
		conn := kit.Dial(t, c.Address("web"))
		conn.Send(kit.Get)
		conns = append(conns, conn)
	}
	s.WaitStatus("some to wait", func(st *control.Status) bool { return harness.ListenerAt(st, c.Address("web")).Queued > 0 })
	kit.Must(t, syscall.Kill(pid, syscall.SIGKILL))
	for _, conn := range conns {
		if code, text := conn.Get2(); code != 200 || text != "hello\n" {
			t.Errorf("answer %d %q", code, text)
		}
	}
	st := kit.Replaced(s, pid, 2)
	if st.Generation != 1 {
		t.Errorf("generation %d: a replacement is no new generation", st.Generation)
	}
	restarts := 0
	for _, w := range kit.Workers(st) {
		restarts += w.Restarts
	}
	if restarts != 1 {
		t.Errorf("%d restarts, want 1", restarts)
	}
}

// What a killed worker takes with it is its own connections, and nothing else.
func TestKilledWorkerLosesOnlyItsOwn(t *testing.T) {
	c := harness.Default(t)
	s := harness.Start(t, c)
	var own uint64
	r := kit.Under(t, meter.Config{HTTP: c.Address("web"), Kept: 32}, func(m *meter.Meter) {
		st := s.WaitStatus("all clients to be connected", func(st *control.Status) bool {
			var n uint64
			for _, w := range kit.Workers(st) {
				n += w.Connections
			}
			return n == 32
		})
		for pid, w := range kit.Workers(st) {
			own = w.Connections
			m.Mark("kill -9 of worker %d, which has %d connections", pid, own)
			kit.Must(t, syscall.Kill(pid, syscall.SIGKILL))
			kit.Replaced(s, pid, 2)
			break
		}
	})
	if uint64(r.Lost()) != own {
		t.Errorf("lost %d, the worker had %d", r.Lost(), own)
	}
}

// The same for clients that come and go: no connect fails, ever.
func TestKilledWorkerRefusesNobody(t *testing.T) {
	c := harness.Default(t)
	s := harness.Start(t, c)
	mc := kit.Clients(c)
	mc.Kept, mc.Halves, mc.Pipeline, mc.Stream = 0, 0, 0, 0
	kit.Killing(t, s, mc, 2, mc.Burst)
}

func TestStoppedWorkerIsReplaced(t *testing.T) {
	c := harness.Default(t).With("worker_timeout: 1s")
	s := harness.Start(t, c)
	pid := s.Workers()[1]
	harness.StopProcess(t, pid)
	var conns []*kit.Client
	for range 100 {
		conn := kit.Dial(t, c.Address("web"))
		conn.Send(kit.Get)
		conns = append(conns, conn)
	}
	kit.Replaced(s, pid, 2)
	for _, conn := range conns {
		if code, text := conn.Get2(); code != 200 || text != "hello\n" {
			t.Errorf("answer %d %q", code, text)
		}
	}
	s.Wait("the stopped worker to be gone", func() bool { return harness.Gone(pid) })
}

// A worker that keeps dying is started more and more slowly; meanwhile its
// queue does not strand, and when the reason is gone it serves again.
func TestCrashLoopStrandsNobody(t *testing.T) {
	c := harness.Default(t)
	s := harness.Start(t, c)
	s.Arm("worker-start", harness.Exit)
	pid := s.Workers()[0]
	kit.Must(t, syscall.Kill(pid, syscall.SIGKILL))
	s.WaitStatus("the back-off", func(st *control.Status) bool {
		for _, g := range st.Groups {
			for _, w := range g.Workers {
				if w.State == "backoff" && w.RetryAt != nil {
					return true
				}
			}
		}
		return false
	})
	mc := kit.Clients(c)
	mc.Kept, mc.Halves, mc.Pipeline, mc.Stream = 4, 2, 2, 2
	kit.LosingNothing(t, mc, func(m *meter.Meter) {
		m.Mark("crash loop")
		s.Wait("three attempts", func() bool { return len(s.Hits("worker-start")) >= 3 })
	})
	s.Disarm("worker-start")
	kit.Replaced(s, pid, 2)
}

func TestAllWorkersKilled(t *testing.T) {
	c := harness.Default(t).WithWorkers(3)
	s := harness.Start(t, c)
	for _, pid := range s.Workers() {
		kit.Must(t, syscall.Kill(pid, syscall.SIGKILL))
	}
	for range 50 {
		if got := kit.Body(c.Address("web")); got != "hello\n" {
			t.Errorf("answer %q", got)
		}
	}
	s.WaitStatus("three workers", func(st *control.Status) bool { return len(kit.Workers(st)) == 3 })
}

// Only the master speaks to a worker.
func TestWorkersIgnoreTerminalSignals(t *testing.T) {
	s := harness.Start(t, harness.Default(t))
	st := s.WaitServing(1)
	for _, pid := range kit.Pids(st) {
		for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT} {
			kit.Must(t, syscall.Kill(pid, sig))
		}
		if group, err := syscall.Getpgid(pid); err != nil || group != pid {
			t.Errorf("worker %d is in process group %d: %v", pid, group, err)
		}
	}
	s.Reload()
	if r := s.Status(); r.Totals.Accepted != 0 || r.Generation != 2 {
		t.Errorf("status %+v", r)
	}
}
