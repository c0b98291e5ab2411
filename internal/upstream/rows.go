package upstream

import (
	"math/bits"
	"sync/atomic"
)

// ClearRows sets n rows from first on to zero: their loops have nothing in use any more.
// The master calls it when the rows' pages of the ledger are reserved and when they are
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

// useRow makes an empty row for a loop that is starting.
func (b *Board) useRow(i int) *row {
	b.clearRow(i)
	b.rows[i/64].Or(1 << (i % 64))
	b.rowWords.Or(1 << (i / 64))
	return &b.cells[i]
}

// inUse returns how many sessions all loops have at the server of an entry.
func (b *Board) inUse(index int) uint64 { return b.inUseBesides(index, nil) }

// inUseBesides is like inUse, but leaves out one row.
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

// rowsInUse returns how many rows a sum reads.
func (b *Board) rowsInUse() int {
	n := 0
	for w := range b.rows {
		n += bits.OnesCount64(b.rows[w].Load())
	}
	return n
}

// usage counts the sessions at a server, those of one loop separately.
//
// Invariant: loops together never exceed a bound. Each counts its own session first and
// then adds up, so the last one sees them all.
type usage struct {
	board *Board // nil if the server's memory is private
	index int
	// shared counts the sessions of all loops at a server with private memory.
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

// besides returns the sessions of the other loops.
func (u *usage) besides(mine *row) uint64 {
	if u.board == nil {
		return 0
	}
	return u.board.inUseBesides(u.index, mine)
}
