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

// Row is the part of a table that belongs to one loop.
type Row struct {
	table *Table
	own   *row
	moves *atomic.Uint64
}

// Row makes an empty row for a loop that is starting. A table's rows must be made one after
// another.
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
// Invariant: loops together never let in more than n connections of a client. Each counts
// its own first and then adds up, so the last one sees them all.
type Bound struct {
	row      *Row
	listener uint64
	max      uint64
}

// Bound makes a bound of n connections for each client of the listener of that key.
func (r *Row) Bound(listener string, n int) *Bound {
	return &Bound{row: r, listener: r.table.key.text(listener), max: uint64(n)}
}

// Enter counts a connection, unless its client has as many as it may: then ok is false. The
// seat is for Leave; 0 says that there was no room to count the connection.
//
// A connection that goes to another loop is counted at both ends for a moment. doubt says that one
// was on its way meanwhile, so that the sum may be too high. If one left or arrived while the rows
// were read, it may have been counted at neither end, so that no client is let in either.
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

// Depart says that a counted connection is on its way to another loop.
func (b *Bound) Depart() { b.row.moves.Add(1<<countBits + 1) }

// Settle undoes Depart.
func (b *Bound) Settle() {
	if word := b.row.moves.Load(); word&maxCount != 0 { // otherwise somebody has spoilt it
		b.row.moves.Store(word - 1)
	}
}

// Join counts a connection that another loop has let in.
func (b *Bound) Join(a netip.Addr) (seat uint16) {
	c := b.row.table.key.client(b.listener, a)
	return b.row.sit(&c)
}

// Leave stops counting a connection, which another bound of the same row may have
// counted.
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

// sit adds one to a client's count. If the client has no slot yet it takes one in the
// emptier of its two sets.
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

// count adds up the connections of a client in all loops.
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

// moving reports whether a connection is on its way. stamp changes with each one that
// leaves or arrives.
func (t *Table) moving() (stamp uint64, moving bool) {
	t.each(func(i int) {
		word := t.moves[i].Load()
		stamp += word >> countBits
		moving = moving || word&maxCount != 0
	})
	return stamp, moving
}
