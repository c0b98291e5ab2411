//go:build nextformat

package handover

import "reuseportd/internal/pack"

// Format is that of a release to come, with a text behind each item. Tests build
// a binary with it, so as to go from one format to the next and back.
const Format = 4

func formatOf([]Item) int { return Format }

func appendLater(b []byte) []byte { return pack.Bytes(b, []byte("of a later release")) }

func readLater(r *pack.Reader, format int) {
	if format >= 4 {
		r.Bytes()
	}
}
