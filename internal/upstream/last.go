package upstream

import (
	"math/bits"
	"net/netip"
	"slices"
	"sync/atomic"
	"unsafe"
)

// lastAnswer is the last answer for a name, from whichever worker has looked it up. All workers
// take it over, and new ones begin with it. It is in the place of a server's counters, which the
// entry of a name doesn't need, so older releases leave it alone.
//
// Invariant: half number%2 is the valid answer. The next one is written into the other half
// before number changes, so that a writer that is killed or stopped leaves the previous one.
// Only the holder of the board's lock writes.
type lastAnswer struct {
	number atomic.Uint64 // of answers so far; 0: none
	halves [2]struct {
		asked   atomic.Int64  // when the lookup began
		whole   atomic.Uint64 // 1: all its addresses have entries
		servers [maxEntries / 64]atomic.Uint64
	}
}

// A name's entry has room for it; this doesn't compile otherwise.
const _ = unsafe.Sizeof(counters{}) - unsafe.Sizeof(lastAnswer{})

func (e *entry) last() *lastAnswer { return (*lastAnswer)(unsafe.Pointer(&e.counters)) }

// marked are the upper bits of entry.answer if this release wrote it. Otherwise an older release, which
// doesn't have lastAnswer, was the last to look the name up.
const marked, markBits = uint64(0xa5e1) << 48, uint64(0xffff) << 48

// record writes n's addresses as the last answer, unless the board has that of a later
// lookup, or can't be locked: then they are this worker's alone until the next lookup.
func (b *Board) record(n *name, servers []*Server) {
	if !b.lock() {
		return
	}
	defer b.unlock()
	last := n.state.last()
	number := last.number.Load()
	before := last.halves[number%2].asked.Load()
	// A time in the future is invalid: a worker has written nonsense.
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
	last.number.Store(number + 1) // now it is valid
}

// strike removes an entry, which is about to become another server's, from all answers. The
// caller has the lock.
func (b *Board) strike(index int) {
	for i := range b.known() {
		if e := &b.entries[i]; e.kind.Load() == ofName {
			for h := range e.last().halves {
				e.last().halves[h].servers[index/64].And(^(uint64(1) << (index % 64)))
			}
		}
	}
}

// last returns the last answer for a name, in order, and when its lookup began; ok is false
// if there is none.
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
		if last.number.Load() == number { // unchanged, so nobody has written into this half
			return inOrder(found), asked, n.state.id.Load() == n.id
		}
	}
	return nil, 0, false
}

// lately returns the addresses that workers have or lately had for a name. It is used if an
// older release was the last to look it up, or the board has no room for all addresses.
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

// target returns the address of entry i, if it is a server of the upstream.
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

// inOrder sorts targets as lookup does, and bounds their number.
func inOrder(all []target) []target {
	slices.SortFunc(all, func(a, b target) int {
		x, _ := netip.ParseAddrPort(a.name)
		y, _ := netip.ParseAddrPort(b.name)
		return x.Compare(y)
	})
	return all[:min(len(all), maxTargets)]
}
