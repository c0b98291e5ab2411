package watch

import (
	"bytes"
	"time"
)

// origin is what is known of how the content came into the file.
type origin int

const (
	unknown  origin = iota // no event came, as on a network file system
	replaced               // the file was moved into its place, or a symlink was: it was whole before
	writing                // somebody who writes to it has it open
	written                // it was written in place, and closed
)

const (
	// growsBy is how much longer to leave a file alone of which what is in use is the beginning, or the other way
	// round: a file that is half written looks like that.
	growsBy = 3
	// gapsBy is how many times the longest pause that its writer has made so far.
	gapsBy = 4
	// mostBy bounds both, and is how long after its last change a file is taken that somebody has
	// open.
	mostBy = 10
)

// settling decides when a file that is written in place is whole. No event says so: a writer that
// opens it for each line closes it each time, and one that keeps it open may never close it.
// So it must be left alone for a while, which grows with the pauses that were seen.
type settling struct {
	base time.Duration // the shortest while

	begun   time.Time     // when it was first seen to differ from what is in use; zero if it doesn't
	raw     []byte        // at the latest look
	changed time.Time     // the look that saw it first
	gap     time.Duration // the longest between two changes
}

// look takes what the file holds, what is in use (nil if that isn't known) and how it was written, and returns
// how much longer to leave the file alone, 0 if it is to be taken.
func (s *settling) look(now time.Time, raw, inUse []byte, how origin) time.Duration {
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

// reset begins anew: the file holds what is in use.
func (s *settling) reset() { *s = settling{base: s.base} }

// lasts returns how long the file has been changing, 0 while it is left alone.
func (s *settling) lasts() time.Duration { return s.changed.Sub(s.begun) }
