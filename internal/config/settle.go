package config

import (
	"bytes"
	"time"
)

// fate is what is known of how a file came to what it holds.
type fate int

const (
	unknown  fate = iota // nothing: no event came, as on a network file system
	replaced             // it was moved to its place, or a symlink was: it was whole before
	writing              // somebody who writes to it has it open
	written              // it was written in place, and closed
)

const (
	// growsBy is how much longer a file is left alone that only got longer or shorter than what
	// is in use: that is how it looks when half of it has been written.
	growsBy = 3
	// gapsBy is how many times the longest pause that its writer has made so far.
	gapsBy = 4
	// mostBy bounds both, and is how long a file that somebody has open is waited for after
	// its last change.
	mostBy = 10
)

// settling decides when a file that is written in place is whole. Nobody says so: a writer that
// opens it for each line closes it each time, and one that keeps it open may never close it.
// So it must be left alone for a while, which grows with the pauses that were seen.
type settling struct {
	base time.Duration // the shortest while

	begun   time.Time     // when it was first seen to differ from what is in use; zero if it doesn't
	raw     []byte        // at the latest look
	changed time.Time     // the look that saw it first
	gap     time.Duration // the longest between two changes
}

// look is told what the file holds, what is in use (nil if that isn't known) and how it was written. It returns
// how much longer to leave the file alone, 0 if it is to be taken.
func (s *settling) look(now time.Time, raw, inUse []byte, how fate) time.Duration {
	switch {
	case s.begun.IsZero():
		s.begun, s.changed, s.raw = now, now, raw
	case !bytes.Equal(raw, s.raw):
		s.gap = max(s.gap, now.Sub(s.changed))
		s.changed, s.raw = now, raw
	}
	if how == replaced {
		return 0
	}
	need := s.base
	if len(raw) == 0 || inUse != nil && (bytes.HasPrefix(raw, inUse) || bytes.HasPrefix(inUse, raw)) {
		need *= growsBy
	}
	need = min(max(need, gapsBy*s.gap), mostBy*s.base)
	if how == writing {
		need = mostBy * s.base
	}
	return max(0, need-now.Sub(s.changed))
}

// reset says that the file holds what is in use.
func (s *settling) reset() { *s = settling{base: s.base} }

// lasts returns how long the file has been changing, 0 while it is left alone.
func (s *settling) lasts() time.Duration { return s.changed.Sub(s.begun) }
