package kit

import (
	"fmt"
	"syscall"
	"testing"

	"reuseportd/internal/control"
	"reuseportd/test/harness"
	"reuseportd/test/meter"
)

// Adopts wants a new master to become that of the processes that are there, and
// all of these to give what they have to its own and go.
func Adopts(t *testing.T, s *harness.Server) *control.Status {
	t.Helper()
	orphans := s.AllWorkers()
	m := s.RunMaster()
	st := s.WaitAlone(m.PID())
	for _, pid := range orphans {
		s.Wait(fmt.Sprintf("the orphan %d to be gone", pid), func() bool { return harness.Gone(pid) })
	}
	if last := st.LastChange; last == nil || !last.OK || last.Action != "start" || last.PID != m.PID() || last.Cut > 0 {
		t.Errorf("last change %+v, want the start of master %d", last, m.PID())
	}
	if pid := s.PIDFile(); pid != m.PID() {
		t.Errorf("the PID file says %d, the master is %d", pid, m.PID())
	}
	return st
}

// TakesOver has a master that nobody's upgrade started take over, and wants the
// one before it to end well and nothing of it to be left.
func TakesOver(t *testing.T, s *harness.Server) *control.Status {
	t.Helper()
	before := s.Status()
	m := s.RunMaster("--takeover")
	st := s.WaitAlone(m.PID())
	if code := s.WaitPID(before.PID); code != 0 {
		t.Errorf("the old master ended with %d", code)
	}
	if last := st.LastChange; !last.OK || last.Action != "takeover" || last.Generation != before.Generation+1 || last.Cut > 0 {
		t.Errorf("last change %+v, want the takeover by master %d", last, m.PID())
	}
	if pid := s.PIDFile(); pid != m.PID() {
		t.Errorf("the PID file says %d, the master is %d", pid, m.PID())
	}
	return st
}

// StopMaster returns when a master does nothing any more, until SIGCONT.
func StopMaster(s *harness.Server, pid int) {
	_ = syscall.Kill(pid, syscall.SIGSTOP)
	s.Wait("the master to stop", func() bool {
		p, err := control.LookAt(pid)
		return err == nil && p.Held()
	})
}

// Only returns the one worker that serves.
func Only(t *testing.T, st *control.Status) control.Worker {
	t.Helper()
	g := harness.Serving(st)
	if g == nil || len(g.Workers) != 1 {
		t.Fatalf("not one worker: %+v", st)
	}
	return g.Workers[0]
}

// SettledCount counts until the processes that have ended are forgotten.
func SettledCount(t *testing.T, count func() int) int {
	last, same := -1, 0
	harness.Wait(t, "processes to be forgotten", func() bool {
		n := count()
		if n == last {
			same++
		} else {
			last, same = n, 0
		}
		return same > 3
	})
	return last
}

// Replaced waits until others serve in the place of pid.
func Replaced(s *harness.Server, pid, n int) *control.Status {
	return s.WaitStatus("a replacement", func(st *control.Status) bool {
		all := Workers(st)
		_, there := all[pid]
		return len(all) == n && !there
	})
}

// Killing kills three of n workers, one after the other, while clients come and go. No
// connect may fail, and nothing be lost but what was inside the killed workers: as a rule
// nothing, and never more than the given number of connections in each.
func Killing(t *testing.T, s *harness.Server, mc meter.Config, n, each int) {
	t.Helper()
	r := Under(t, mc, func(m *meter.Meter) {
		for i := range 3 {
			pid := s.Workers()[i%n]
			m.Mark("kill -9 of worker %d", pid)
			Must(t, syscall.Kill(pid, syscall.SIGKILL))
			Replaced(s, pid, n)
		}
	})
	for _, l := range r.Losses {
		if l.Phase == meter.Connect {
			t.Errorf("a connect failed: %v", l)
		}
	}
	if r.Lost() > 3*each {
		t.Errorf("lost %d, at most %d were inside each worker", r.Lost(), each)
	}
}

// Without is c and a listener "more" that is not in c: its connections can't go
// along to c.
func Without(t *testing.T, c harness.Config) (both harness.Config, more string) {
	t.Helper()
	l := harness.Echo("more", harness.Local(t))
	return c.WithListeners(append(c.Listeners[:2:2], l)...), l.Address
}

// Echoes connects so many clients that are known to the server.
func Echoes(t *testing.T, address string, n int) []*Client {
	t.Helper()
	var all []*Client
	for range n {
		conn := Dial(t, address)
		conn.Echo("here")
		all = append(all, conn)
	}
	return all
}

// Steady are connections that must outlive every change that fails.
type Steady struct {
	C         harness.Config
	Web, Echo *Client
}

// NewSteady connects to the listeners web and echo of c.
func NewSteady(t *testing.T, c harness.Config) *Steady {
	s := &Steady{c, Dial(t, c.Address("web")), Dial(t, c.Address("echo"))}
	s.Try(t)
	return s
}

// Try uses both, and makes a new one.
func (s *Steady) Try(t *testing.T) {
	t.Helper()
	if resp, text := s.Web.Get(); resp.Close || text != "hello\n" {
		t.Errorf("a connection is ended: %q", text)
	}
	s.Echo.Echo("hello")
	if got := Body(s.C.Address("web")); got != "hello\n" {
		t.Errorf("a new connection is answered %q", got)
	}
}
