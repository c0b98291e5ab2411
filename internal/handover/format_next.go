//go:build nextformat

package handover

import "reuseportd/internal/pack"

// Format is that of an imaginary next release, which writes a text after each item. Tests
// build a binary with it, to go from one format to the next and back.
const Format = 4

func formatOf([]Item) int { return Format }

func appendLater(b []byte) []byte { return pack.Bytes(b, []byte("of a later release")) }

func readLater(r *pack.Reader, format int) {
	if format >= 4 {
		r.Bytes()
	}
}
