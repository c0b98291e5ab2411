package record

import (
	"fmt"

	"reuseportd/internal/stats"
)

// MaxNumber bounds what only counts up: IDs of generations and numbers of messages. No
// service gets there, and nothing overflows on the way from there on.
const MaxNumber = 1 << 62

// check holds the numbers to their bounds. A master wrote them, but another release
// may have, or a disk that was full.
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

// CheckPages insists that a worker's slots are such, each once, and its pages the
// ledger's.
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
