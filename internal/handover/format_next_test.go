//go:build nextformat

package handover

import (
	"errors"
	"testing"

	"reuseportd/internal/pack"
)

// TestNextFormatIsAnother: its bytes are not read as the first one's, nor the other
// way round: an earlier release would misread them.
func TestNextFormatIsAnother(t *testing.T) {
	b, fds, _ := Encode(samples())
	if _, err := Decode(1, b, fds); !errors.Is(err, pack.ErrMalformed) {
		t.Errorf("read as format 1: %v", err)
	}
	first := []byte("\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")
	if _, err := Decode(1, first, []int{3}); err != nil {
		t.Errorf("format 1: %v", err)
	}
	if _, err := Decode(2, first, []int{3}); !errors.Is(err, pack.ErrMalformed) {
		t.Errorf("format 1 read as format 2: %v", err)
	}
}
