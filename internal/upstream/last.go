package upstream

import (
	"math/bits"
	"net/netip"
	"slices"
	"sync/atomic"
	"unsafe"
)

// lastAnswer is the last answer for a name, from whichever worker asked: what all workers know of
// it, and what one that starts begins with. It lies where an entry has the counters of a server,
// which names don't have: older releases leave it alone.
//
// Invariant: half number%2 is the answer. The next one is written into the other half before
// number says so, so that a writer that is killed or stopped leaves the one of before. Only who
// has the board's lock writes.
type lastAnswer struct {
	number atomic.Uint64 // of answers that there were; 0: none
	halves [2]struct {
		asked   atomic.Int64  // when the lookup began
		whole   atomic.Uint64 // 1: all its servers are on the board
		servers [maxEntries / 64]atomic.Uint64
	}
}

// A name's entry has room for it; this doesn't compile otherwise.
const _ = unsafe.Sizeof(counters{}) - unsafe.Sizeof(lastAnswer{})

func (e *entry) last() *lastAnswer { return (*lastAnswer)(unsafe.Pointer(&e.counters)) }

// marked are the upper bits of entry.answer when this release wrote it. Where they are others, an older
// release, which doesn't know lastAnswer, was the last to ask.
const marked, markBits = uint64(0xa5e1) << 48, uint64(0xffff) << 48

// record writes down what n has as the last answer, unless one is there that was asked for
// later, or the board can't be written to: then it is this worker's alone until the next.
func (b *Board) record(n *name, servers []*Server) {
	if !b.lock() {
		return
	}
	defer b.unlock()
	last := n.state.last()
	number := last.number.Load()
	before := last.halves[number%2].asked.Load()
	// A time to come is nobody's: a worker wrote nonsense.
	if n.state.id.Load() != n.id || before > n.since && before <= monotonic() {
		return
	}
	next := &last.halves[(number+1)%2]
	for i := range next.servers {
		next.servers[i].Store(0)
	}
	whole := uint64(1)
	for _, s := range servers {
		if s.board == nil || s.state.id.Load() != s.id {
			whole = 0
			continue
		}
		next.servers[s.index/64].Or(1 << (s.index % 64))
	}
	next.whole.Store(whole)
	next.asked.Store(n.since)
	last.number.Store(number + 1) // now it is
}

// strike takes an entry, which becomes another server's, out of all answers. The caller has
// the lock.
func (b *Board) strike(index int) {
	for i := range b.known() {
		if e := &b.entries[i]; e.kind.Load() == ofName {
			for h := range e.last().halves {
				e.last().halves[h].servers[index/64].And(^(uint64(1) << (index % 64)))
			}
		}
	}
}

// last returns the last answer for a name, in order, and when its lookup began; false if none
// is written down.
func (b *Board) last(n *name) (found []target, asked int64, ok bool) {
	if n.state.answer.Load()&markBits != marked {
		return nil, 0, false
	}
	last := n.state.last()
	for range 8 {
		number := last.number.Load()
		half := &last.halves[number%2]
		asked = half.asked.Load()
		if number == 0 || half.whole.Load() != 1 || asked > monotonic() {
			return nil, 0, false
		}
		found = found[:0]
		for w := range half.servers {
			for set := half.servers[w].Load(); set != 0; set &= set - 1 {
				if t, ok := b.target(w*64+bits.TrailingZeros64(set), n.upstream); ok {
					found = append(found, t)
				}
			}
		}
		if last.number.Load() == number { // until then nobody writes into this half
			return inOrder(found), asked, n.state.id.Load() == n.id
		}
	}
	return nil, 0, false
}

// lately returns the addresses that workers have for a name, or had: all that is known of it
// when an older release was the last to ask, or the board has no room for all.
func (b *Board) lately(upstream, name string, now int64) []target {
	var all []target
	for i := range b.known() {
		e := &b.entries[i]
		if now-e.touched.Load() > shown || load(e.name[:]) != name {
			continue
		}
		if t, ok := b.target(i, upstream); ok {
			all = append(all, t)
		}
	}
	return inOrder(all)
}

// target returns the address of an entry, if it is a server of this upstream.
func (b *Board) target(i int, upstream string) (target, bool) {
	e := &b.entries[i]
	id := e.id.Load()
	if id == 0 || e.kind.Load() != ofServer || load(e.upstream[:]) != upstream {
		return target{}, false
	}
	a, err := netip.ParseAddrPort(load(e.address[:]))
	if err != nil || e.id.Load() != id {
		return target{}, false
	}
	t, err := withZone(a.Addr(), a.Port())
	return t, err == nil
}

// inOrder sorts targets as lookup does, and bounds them.
func inOrder(all []target) []target {
	slices.SortFunc(all, func(a, b target) int {
		x, _ := netip.ParseAddrPort(a.name)
		y, _ := netip.ParseAddrPort(b.name)
		return x.Compare(y)
	})
	return all[:min(len(all), maxTargets)]
}
