package clients

import (
	"fmt"
	"math/bits"
	"net/netip"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A word of a row is a client's mark and, in the lowest bits, its number of connections; 0 is a
// free slot. So each change is one store, before or after which any process may be killed.
const (
	countBits = 24
	maxCount  = 1<<countBits - 1
)

// row is what one loop has counted. Only that loop writes to it.
type row [sets][ways]atomic.Uint64

func (t *Table) row(i int) *row {
	return (*row)(unsafe.Pointer(&t.cells[i*rowSize]))
}

// Row is a loop's part of a table.
type Row struct {
	table *Table
	own   *row
	moves *atomic.Uint64
}

// Row makes the row of a loop that begins ready, with nothing counted. Rows of a table are made
// one after the other.
func (t *Table) Row(i int) (*Row, error) {
	if i < 0 || i >= Rows {
		return nil, fmt.Errorf("table of clients: no row %d, there are %d", i, Rows)
	}
	if t.cells == nil {
		mem, err := unix.Mmap(t.fd, headSize, Rows*rowSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		if err != nil {
			return nil, fmt.Errorf("table of clients: mmap: %w", err)
		}
		t.cells = mem
	}
	t.ClearRows(i, 1)
	t.used[i/64].Or(1 << (i % 64))
	t.words.Or(1 << (i / 64))
	return &Row{table: t, own: t.row(i), moves: &t.moves[i]}, nil
}

// Bound is how many connections each client may have at a listener, as one loop keeps it.
//
// Invariant: no client has more than that let in by any number of loops, since each counts
// itself first and then looks at the sum: the last to count itself sees all.
type Bound struct {
	row      *Row
	listener uint64
	max      uint64
}

// Bound makes a bound of n connections for each client of the listener of that key.
func (r *Row) Bound(listener string, n int) *Bound {
	return &Bound{row: r, listener: r.table.key.text(listener), max: uint64(n)}
}

// Enter counts a connection in unless its client has as many as it may: then ok is
// false. A seat is to be given to Leave, 0 says that there was no room to count the connection.
//
// A connection that goes to another loop is counted at both ends for a moment. If any was on its
// way meanwhile, doubt says that the sum may have been too high. If any set out for or came to a loop
// while the rows were read, it may have been counted at neither, and nobody is let in for that.
func (b *Bound) Enter(a netip.Addr) (seat uint16, ok, doubt bool) {
	c := b.row.table.key.client(b.listener, a)
	before, moving := b.row.table.moving()
	seat, ok = b.enter(&c)
	after, still := b.row.table.moving()
	switch {
	case before == after:
		return seat, ok, !ok && (moving || still)
	case ok:
		b.Leave(seat)
	}
	return 0, false, true
}

func (b *Bound) enter(c *client) (seat uint16, ok bool) {
	if seat = b.row.sit(c); seat != 0 && b.row.table.count(c) > b.max {
		b.Leave(seat)
		return 0, false
	}
	return seat, true
}

// Depart says that a connection that is counted is on its way, and Settle that it is no more.
func (b *Bound) Depart() { b.row.moves.Add(1<<countBits + 1) }

// Settle undoes Depart.
func (b *Bound) Settle() {
	if word := b.row.moves.Load(); word&maxCount != 0 { // else somebody has spoilt it
		b.row.moves.Store(word - 1)
	}
}

// Join counts in a connection that has been let in before.
func (b *Bound) Join(a netip.Addr) (seat uint16) {
	c := b.row.table.key.client(b.listener, a)
	return b.row.sit(&c)
}

// Leave counts a connection out, which another bound of the row may have counted in.
func (b *Bound) Leave(seat uint16) {
	i := uint64(seat) - 1
	if i >= slots {
		return
	}
	cell := &b.row.own[i/ways][i%ways]
	switch word := cell.Load(); word & maxCount {
	case 0: // somebody has spoilt it
	case 1:
		cell.Store(0)
	default:
		cell.Store(word - 1)
	}
}

// sit adds one to a client's count, in the emptier of its sets if it has none yet.
func (r *Row) sit(c *client) uint16 {
	var free, best uint64
	room := 0
	for _, set := range c.set {
		vacant, at := 0, uint64(0)
		for w := range uint64(ways) {
			cell := &r.own[set][w]
			switch word := cell.Load(); {
			case word&maxCount == 0:
				vacant, at = vacant+1, w
			case word>>countBits == c.mark && word&maxCount == maxCount:
				return 0
			case word>>countBits == c.mark:
				cell.Store(word + 1)
				return uint16(set*ways+w) + 1
			}
		}
		if vacant > room {
			room, free, best = vacant, at, set
		}
	}
	if room == 0 {
		return 0
	}
	r.own[best][free].Store(c.mark<<countBits | 1)
	return uint16(best*ways+free) + 1
}

// each calls f for every row in use.
func (t *Table) each(f func(i int)) {
	for words := t.words.Load(); words != 0; words &= words - 1 {
		w := bits.TrailingZeros64(words)
		for set := t.used[w].Load(); set != 0; set &= set - 1 {
			f(w*64 + bits.TrailingZeros64(set))
		}
	}
}

// count adds up what all loops have of a client.
func (t *Table) count(c *client) (sum uint64) {
	t.each(func(i int) {
		r := t.row(i)
		for _, s := range c.set {
			for w := range r[s] {
				if word := r[s][w].Load(); word>>countBits == c.mark {
					sum += word & maxCount
				}
			}
		}
	})
	return sum
}

// moving reports whether a connection is on its way; stamp changes with each that sets out.
func (t *Table) moving() (stamp uint64, moving bool) {
	t.each(func(i int) {
		word := t.moves[i].Load()
		stamp += word >> countBits
		moving = moving || word&maxCount != 0
	})
	return stamp, moving
}
