package eventloop

import (
	"math"
	"time"
)

const (
	// ScarceRate is the rate that peers are to keep to while descriptors or memory are short and no other
	// is asked for, in bytes a second: less than any line in use has, and more than who
	// only wants to keep a place sends.
	ScarceRate = 500
	// scarceFor is how long it goes on after the last time that they were.
	scarceFor = int64(10 * time.Second)
)

// scarcity is whether the process is near one of its bounds, on the loop's clock.
type scarcity struct {
	on    bool
	since int64 // when it began
	last  int64 // when it was so last
}

// rate returns what the service's peers are to keep to now; 0 is no rate.
func (s *Service) rate() int64 {
	if s.minRate == 0 && s.paced && s.loop.scarce.on {
		return ScarceRate
	}
	return s.minRate
}

// noteScarcity looks, once a turn, whether the process is near a bound: no more than a sixteenth of what clients
// may have is left of the descriptors, or an eighth of what connections may hold.
func (l *Loop) noteScarcity(held, allowed int) {
	s := &l.scarce
	switch {
	case l.budget.wanted() >= 0 && l.budget != nil, allowed != math.MaxInt && held > allowed-allowed/8:
		if !s.on {
			s.on, s.since = true, l.now
		}
		s.last = l.now
	case s.on && l.now-s.last > scarceFor:
		s.on = false
	}
}
