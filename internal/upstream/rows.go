package upstream

import (
	"math/bits"
	"sync/atomic"
)

// ClearRows says that nothing is in use any more by n loops from the row first on. The
// master calls it when their pages of the ledger are reserved and when they are
// folded: no loop may use the rows.
func (b *Board) ClearRows(first, n int) {
	for i := first; i < first+n; i++ {
		if word, bit := &b.rows[i/64], uint64(1)<<(i%64); word.Load()&bit != 0 {
			b.clearRow(i)
			word.And(^bit)
		}
	}
}

func (b *Board) clearRow(i int) {
	for j := range b.cells[i] {
		b.cells[i][j].Store(0)
	}
}

// useRow makes the row of a loop that begins ready, with nothing in use.
func (b *Board) useRow(i int) *row {
	b.clearRow(i)
	b.rows[i/64].Or(1 << (i % 64))
	b.rowWords.Or(1 << (i / 64))
	return &b.cells[i]
}

// inUse is how many sessions all loops have at the server of an entry.
func (b *Board) inUse(index int) uint64 { return b.inUseBesides(index, nil) }

// inUseBesides leaves out one row.
func (b *Board) inUseBesides(index int, mine *row) uint64 {
	sum := uint64(0)
	for words := b.rowWords.Load(); words != 0; words &= words - 1 {
		w := bits.TrailingZeros64(words)
		for set := b.rows[w].Load(); set != 0; set &= set - 1 {
			if r := &b.cells[w*64+bits.TrailingZeros64(set)]; r != mine {
				sum += uint64(r[index].Load())
			}
		}
	}
	return sum
}

// rowsInUse is how many rows a sum looks at.
func (b *Board) rowsInUse() int {
	n := 0
	for w := range b.rows {
		n += bits.OnesCount64(b.rows[w].Load())
	}
	return n
}

// usage is how many sessions there are at a server, those of one loop apart.
//
// Invariant: a bound is never exceeded by any number of loops, since each counts itself
// first and then looks at the sum: the last to count itself sees all.
type usage struct {
	board *Board // nil if the server's memory is private
	index int
	// shared is all loops' sessions at a server with private memory.
	shared *atomic.Uint32
}

func (u *usage) cell(mine *row) *atomic.Uint32 {
	if u.board == nil {
		return u.shared
	}
	return &mine[u.index]
}

func (u *usage) sum() uint64 {
	if u.board == nil {
		return uint64(u.shared.Load())
	}
	return u.board.inUse(u.index)
}

// besides is what the other loops have.
func (u *usage) besides(mine *row) uint64 {
	if u.board == nil {
		return 0
	}
	return u.board.inUseBesides(u.index, mine)
}
