package upstream

import (
	"fmt"
	"time"
)

// whole is the unit of weights: that of a server with weight 1. It is larger than 1 so
// that slow start has steps.
const whole = 256

// weightAt returns the server's weight, in units of 1/whole; 0 if it must not be used.
func (s *Server) weightAt(now int64) int64 {
	e, conf := s.state, s.pool.conf
	if e.id.Load() != s.id || conf.Check != nil && e.checkDown.Load() != 0 {
		return 0
	}
	back := e.upSince.Load()
	if conf.MaxFailures > 0 {
		until := e.ejectedUntil.Load()
		if until > now {
			return 0
		}
		back = max(back, until)
	}
	w := int64(s.Conf.Weight) * whole
	if slow := int64(conf.SlowStart); slow > 0 && back > 0 && now-back < slow {
		return max(1, int64(float64(w)*float64(now-back)/float64(slow)))
	}
	return w
}

// succeeded resets the count of consecutive failures. A success while the server is
// ejected belongs to an earlier attempt and is ignored.
func (s *Server) succeeded(now int64) {
	e := s.state
	if e.failures.Load() == 0 || e.ejectedUntil.Load() > now {
		return
	}
	before := e.failures.Swap(0)
	if most := s.pool.conf.MaxFailures; most > 0 && before >= uint64(most) {
		s.tell(Ejected, Up, "it has answered after its cool-down")
	}
}

// failed counts a failure, and reports whether it ejects the server. An ejection doesn't reset
// the count of consecutive failures, so that after it a single failure ejects again.
func (s *Server) failed(now int64, r Reason) bool {
	if int(r) >= Reasons {
		r = Other
	}
	e := s.state
	e.counters.failures[r].Add(1)
	if r.Local() {
		return false
	}
	n, most := e.failures.Add(1), uint64(s.pool.conf.MaxFailures)
	until := e.ejectedUntil.Load()
	if most == 0 || n < most || until > now || e.id.Load() != s.id {
		return false
	}
	if !e.ejectedUntil.CompareAndSwap(until, now+int64(s.pool.conf.CoolDown)) {
		return false // another loop was first
	}
	e.ejectedAt.Store(now)
	e.counters.ejections.Add(1)
	s.tell(Up, Ejected, fmt.Sprintf("%s in a row (%s); it is tried again in %s",
		plural(n, "failure", "failures"), r, s.pool.conf.CoolDown))
	return true
}

// checked records the outcome of a check; why is what was wrong, "" if nothing was.
func (s *Server) checked(now int64, why string) {
	e, check := s.state, s.pool.conf.Check
	down := e.checkDown.Load()
	if why != "" {
		e.counters.checksFailed.Add(1)
		e.rises.Store(0)
		n := e.falls.Add(1)
		if down == 0 && n >= uint64(check.Fall) && e.checkDown.CompareAndSwap(0, now) {
			s.tell(Up, Down, fmt.Sprintf("%s in a row failed (%s)", plural(n, "check", "checks"), why))
		}
		return
	}
	e.counters.checksOK.Add(1)
	e.falls.Store(0)
	if down == 0 {
		return
	}
	if n := e.rises.Add(1); n >= uint64(check.Rise) {
		// Slow start begins again; stored before the server is seen as up.
		e.upSince.Store(now)
		e.failures.Store(0)
		e.ejectedUntil.Store(0)
		if e.checkDown.CompareAndSwap(down, 0) {
			s.tell(Down, Up, fmt.Sprintf("%s in a row succeeded, after %s",
				plural(n, "check", "checks"), time.Duration(now-down).Round(time.Millisecond)))
		}
	}
}

func (s *Server) tell(from, to State, why string) {
	s.pool.set.event(Event{s.pool.conf.Name, s.name, from, to, why})
}

func plural(n uint64, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprint(n, " ", more)
}
