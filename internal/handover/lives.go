package handover

import (
	"math"
	"time"

	"reuseportd/internal/eventloop"
	"reuseportd/internal/pack"
)

// EncodeLives writes how old each item's connection is and how many requests it has had. That
// travels beside the items and not in them, so a release that doesn't know it still takes the
// connections, and counts from zero.
func EncodeLives(items []Item) []byte {
	var b []byte
	for i := range items {
		b = pack.Uint(b, uint64(items[i].Age/eventloop.AgeUnit))
		b = pack.Uint(b, uint64(items[i].Served))
	}
	return b
}

// DecodeLives reads what EncodeLives wrote for the same items. An earlier release sends nothing,
// so b may be empty.
func DecodeLives(b []byte, items []Item) error {
	if len(b) == 0 {
		return nil
	}
	r := pack.NewReader(b)
	for i := range items {
		items[i].Age = time.Duration(r.Int(int(eventloop.MaxAge/eventloop.AgeUnit))) * eventloop.AgeUnit
		items[i].Served = uint32(r.Int(math.MaxUint32))
	}
	return r.End()
}
