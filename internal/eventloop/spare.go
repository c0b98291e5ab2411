package eventloop

// Spare keeps what was used for whoever needs one next. Trim ends those that nobody
// needed since the last Trim: a burst's come back, a steady load's stay.
type Spare[T any] struct {
	idle  []T
	least int // the fewest that there were since the last Trim
}

// Take returns the one that was kept last; ok is false if there is none.
func (s *Spare[T]) Take() (v T, ok bool) {
	n := len(s.idle) - 1
	if n < 0 {
		return v, false
	}
	var none T
	v, s.idle[n] = s.idle[n], none
	s.idle = s.idle[:n]
	s.least = min(s.least, n)
	return v, true
}

// Keep keeps v and reports whether it did: there are at most bound of them.
func (s *Spare[T]) Keep(v T, bound int) bool {
	if len(s.idle) >= bound {
		return false
	}
	if s.idle == nil {
		s.idle = make([]T, 0, bound) // so that it allocates once
	}
	s.idle = append(s.idle, v)
	return true
}

// Len returns how many are kept.
func (s *Spare[T]) Len() int { return len(s.idle) }

// Trim ends those that were not needed since the last Trim, the coldest, and calls
// end for each.
func (s *Spare[T]) Trim(end func(T)) {
	for _, v := range s.idle[:s.least] {
		end(v)
	}
	n := copy(s.idle, s.idle[s.least:])
	clear(s.idle[n:])
	s.idle = s.idle[:n]
	if n == 0 {
		s.idle = nil
	}
	s.least = n
}
