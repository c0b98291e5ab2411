package material

import (
	"fmt"

	"reuseportd/internal/pack"
)

// Set is what a worker gets: all materials of its configuration.
type Set struct {
	Number uint64 // that of the newest material
	Items  []Item
}

// Item is one material.
type Item struct {
	Key   string // Want.Key
	Files [][]byte
}

// format is the number of the form that Encode writes. The worker that reads it is of the same release, or was started by
// an earlier one.
const format = 1

// Encode returns the set as bytes.
func (s *Set) Encode() []byte {
	b := pack.Uint(nil, format)
	b = pack.Uint(b, s.Number)
	b = pack.Uint(b, uint64(len(s.Items)))
	for _, it := range s.Items {
		b = pack.String(b, it.Key)
		b = pack.Uint(b, uint64(len(it.Files)))
		for _, f := range it.Files {
			b = pack.Bytes(b, f)
		}
	}
	return b
}

// Decode reads what Encode wrote. The set refers to b.
func Decode(b []byte) (*Set, error) {
	r := pack.NewReader(b)
	if v := r.Uint(); r.Err() == nil && v != format {
		return nil, fmt.Errorf("materials of format %d, this release knows %d", v, format)
	}
	s := &Set{Number: r.Uint()}
	for range r.Int(r.Len()) {
		it := Item{Key: string(r.Bytes())}
		for range r.Int(r.Len()) {
			it.Files = append(it.Files, r.Bytes())
		}
		if r.Err() != nil {
			break
		}
		s.Items = append(s.Items, it)
	}
	if err := r.End(); err != nil {
		return nil, fmt.Errorf("materials: %w", err)
	}
	return s, nil
}

// Find returns the files of a material, nil if the set doesn't have it.
func (s *Set) Find(w Want) [][]byte {
	if s == nil {
		return nil
	}
	key := w.Key()
	for i := range s.Items {
		if s.Items[i].Key == key {
			return s.Items[i].Files
		}
	}
	return nil
}
