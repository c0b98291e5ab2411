package material

import (
	"slices"
	"time"
)

// Entry is a material as the master has it.
type Entry struct {
	Want
	Number uint64 // grows with each new content of any material; 0: none yet
	Files  [][]byte
	SHA256 string
	Since  time.Time // when this content was first read
	// Expires is when a certificate expires; zero for other materials.
	Expires time.Time
	// Bad is why the files' current contents are not in use, "" if they are; BadSince is
	// since when.
	Bad      string
	BadSince time.Time
}

// Store has the newest valid contents, by Want.Key. It is not safe for concurrent use.
type Store struct {
	entries map[string]*Entry
	number  uint64
}

func (s *Store) entry(w Want) *Entry {
	if s.entries == nil {
		s.entries = make(map[string]*Entry)
	}
	e := s.entries[w.Key()]
	if e == nil {
		e = &Entry{Want: w}
		s.entries[w.Key()] = e
	}
	return e
}

// Put stores what was read, and reports whether the content has changed.
func (s *Store) Put(w Want, files [][]byte, now time.Time) (changed bool) {
	e := s.entry(w)
	e.Bad, e.BadSince = "", time.Time{}
	hash := Sum(files)
	if e.Number > 0 && e.SHA256 == hash {
		return false
	}
	s.number++
	e.Number, e.Files, e.SHA256, e.Since, e.Expires = s.number, files, hash, now, expiry(w, files)
	return true
}

// Has reports whether this is the content in use.
func (s *Store) Has(w Want, files [][]byte) bool {
	e := s.entries[w.Key()]
	return e != nil && e.Number > 0 && e.SHA256 == Sum(files)
}

// Fail records that the current content is invalid, and reports whether that is new.
func (s *Store) Fail(w Want, why string, now time.Time) (news bool) {
	e := s.entry(w)
	if e.Bad == why {
		return false
	}
	e.Bad, e.BadSince = why, now
	return true
}

// Find returns a material, nil if it was never read.
func (s *Store) Find(w Want) *Entry { return s.entries[w.Key()] }

// Keep removes all but the wanted ones.
func (s *Store) Keep(wants []Want) {
	keys := make(map[string]bool)
	for _, w := range wants {
		keys[w.Key()] = true
	}
	for key := range s.entries {
		if !keys[key] {
			delete(s.entries, key)
		}
	}
}

// Set returns the wanted ones as a worker gets them. missing are those without a valid content.
func (s *Store) Set(wants []Want) (set Set, missing []Want) {
	seen := make(map[string]bool)
	for _, w := range wants {
		if seen[w.Key()] {
			continue
		}
		seen[w.Key()] = true
		e := s.entries[w.Key()]
		if e == nil || e.Number == 0 {
			missing = append(missing, w)
			continue
		}
		set.Number = max(set.Number, e.Number)
		set.Items = append(set.Items, Item{Key: w.Key(), Files: slices.Clone(e.Files)})
	}
	return set, missing
}
