package record

import (
	"fmt"

	"reuseportd/internal/stats"
)

// MaxNumber bounds IDs of generations and numbers of messages, which only count up. No
// service reaches it, and counting on from it doesn't overflow.
const MaxNumber = 1 << 62

// check returns an error if a number is out of bounds. A master wrote them, but it may
// have been another release, or a disk may have been full.
func (r *Record) check() error {
	if r.LastID > MaxNumber || r.Seq > MaxNumber {
		return fmt.Errorf("last_id %d, seq %d: more than there can be", r.LastID, r.Seq)
	}
	ids := make(map[uint64]bool)
	for i := range r.Generations {
		g := &r.Generations[i]
		if g.ID == 0 || g.ID > r.LastID || ids[g.ID] {
			return fmt.Errorf("generation %d: not one of those up to %d, or there twice", g.ID, r.LastID)
		}
		ids[g.ID] = true
		places := make(map[int]bool)
		for j := range g.Workers {
			w := &g.Workers[j]
			if w.Index < 0 || places[w.Index] || w.PID < 0 || w.Restarts < 0 {
				return fmt.Errorf("generation %d: worker %d, pid %d, restarts %d", g.ID, w.Index, w.PID, w.Restarts)
			}
			places[w.Index] = true
			if err := CheckPages(w.Page, w.Slots); err != nil {
				return fmt.Errorf("generation %d: worker %d: %w", g.ID, w.Index, err)
			}
		}
	}
	return nil
}

// CheckPages returns an error unless a worker's slots are valid and distinct, and its
// pages are within the ledger.
func CheckPages(page int, slots []int) error {
	n := len(slots)
	if n < 1 || n > stats.MaxPages || page < 0 || page > stats.MaxPages-n {
		return fmt.Errorf("%d slots from page %d on: the ledger has %d pages", n, page, stats.MaxPages)
	}
	seen := make(map[int]bool)
	for _, s := range slots {
		if s < 0 || s >= stats.MaxPages || seen[s] {
			return fmt.Errorf("slot %d is none, or there twice", s)
		}
		seen[s] = true
	}
	return nil
}
