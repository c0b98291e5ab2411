package handover

import (
	"math"
	"testing"
	"time"

	"reuseportd/internal/eventloop"
)

// TestLives: ages and requests travel beside the items, and nothing is what an earlier release says.
func TestLives(t *testing.T) {
	items := make([]Item, 3)
	items[0].Age, items[0].Served = 90*time.Minute, 7
	items[2].Age, items[2].Served = eventloop.MaxAge, math.MaxUint32
	b := EncodeLives(items)
	got := make([]Item, 3)
	if err := DecodeLives(b, got); err != nil {
		t.Fatal(err)
	}
	for i := range got {
		if lost := items[i].Age - got[i].Age; lost < 0 || lost >= eventloop.AgeUnit || got[i].Served != items[i].Served {
			t.Errorf("%d: %v, %d", i, got[i].Age, got[i].Served)
		}
	}
	if err := DecodeLives(nil, got); err != nil {
		t.Error(err)
	}
	for n := 1; n < len(b); n++ {
		if DecodeLives(b[:n], got) == nil {
			t.Errorf("%d bytes of %d were read", n, len(b))
		}
	}
	if DecodeLives(append(b, 0), got) == nil {
		t.Error("a byte too many was read")
	}
}

// FuzzLives: whatever comes, numbers stay within their bounds.
func FuzzLives(f *testing.F) {
	f.Add([]byte{}, 0)
	f.Add([]byte("\x01\x02\xff\xff\xff\xff\x0f\x00"), 2)
	f.Fuzz(func(t *testing.T, b []byte, n int) {
		items := make([]Item, n&63)
		if DecodeLives(b, items) != nil {
			return
		}
		for i := range items {
			if items[i].Age < 0 || items[i].Age > eventloop.MaxAge {
				t.Errorf("an age of %v", items[i].Age)
			}
		}
	})
}
