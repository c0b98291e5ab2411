package eventloop

import (
	"math"
	"sync/atomic"
	"time"
	"unsafe"
)

// Memory bounds what connections hold in a process, over all of its loops: buffers of input and
// output, pipes, what services say of their states, and what is kept of all
// that for later. Loops count with plain integers and publish the sum once a turn.
//
// Each loop has a part, the bound divided by the number of loops. A loop may hold more
// as long as all together hold less than the bound; beyond it whoever holds more than its part
// sheds down to that.
type Memory struct {
	bound atomic.Int64 // 0 is none
	held  atomic.Int64
	loops []*Loop // complete before any of them runs
	woken atomic.Int64

	shed [shedKinds]atomic.Uint64
}

// SetBound bounds what may be held, in bytes; 0 is no bound. Any goroutine may call it.
// Loops that hold more shed at once.
func (m *Memory) SetBound(n int64) {
	if before := m.bound.Swap(n); n != 0 && (before == 0 || n < before) && m.held.Load() > n {
		m.wake(nil)
	}
}

// Bound returns what SetBound was told.
func (m *Memory) Bound() int64 { return m.bound.Load() }

// Held returns the bytes that are held, as of each loop's latest turn.
func (m *Memory) Held() int64 { return m.held.Load() }

// Shed returns how many connections were ended for want of memory, by what they held.
func (m *Memory) Shed() Shed {
	return Shed{m.shed[shedHead].Load(), m.shed[shedBody].Load(), m.shed[shedIdle].Load()}
}

// Shed counts connections that were ended for want of memory.
type Shed struct {
	Heads  uint64 // part of a message had arrived
	Bodies uint64 // a body, an answer, a tunnel was under way
	Idle   uint64
}

// wake has all loops but one look at what they hold.
func (m *Memory) wake(but *Loop) {
	for _, l := range m.loops {
		if l != but {
			l.Post(func() {})
		}
	}
}

// holding is what one loop counts for its Memory, in bytes.
//
// Invariant: lent is what connections hold, kept what lies ready for them.
type holding struct {
	lent, kept int
	short      bool  // while shedding: nothing is kept
	told       int   // what Memory counts of this loop
	ceiling    int   // more lent than this is looked at in the middle of a turn
	trimAt     int64 // on the loop's clock
	fruitless  int64 // shedding found too little; not again before this
	trims      []func()
}

// trimEvery is how long what nobody needs is kept.
const trimEvery = int64(time.Second)

// connSize is what an idle connection is counted with.
const connSize = int(unsafe.Sizeof(Conn{}))

// Charge counts n bytes more, or less, that the State of a service's connections holds.
func (l *Loop) Charge(n int) { l.mem.lent += n }

// OnTrim has f called about once a second while the loop turns, to free what was kept for
// later and not needed.
func (l *Loop) OnTrim(f func()) { l.mem.trims = append(l.mem.trims, f) }

// holds returns the bytes that the loop holds.
func (l *Loop) holds() int { return l.mem.lent + l.mem.kept + l.live*connSize }

// publish tells Memory what the loop holds and returns the bytes that it may hold.
func (l *Loop) publish() (allowed int) {
	held := l.holds()
	if held != l.mem.told {
		l.memory.held.Add(int64(held - l.mem.told))
		l.mem.told = held
	}
	bound := l.memory.bound.Load()
	if bound == 0 {
		return math.MaxInt
	}
	part := int(bound) / max(1, len(l.memory.loops))
	return max(part, held+int(bound-l.memory.held.Load()))
}

// account ends a turn: what nobody needs goes, and what is held is brought below the bound.
func (l *Loop) account() {
	if l.now >= l.mem.trimAt {
		l.trim()
	}
	allowed := l.publish()
	held := l.holds()
	l.noteScarcity(held, allowed)
	if allowed == math.MaxInt {
		l.mem.ceiling = math.MaxInt
		return
	}
	l.mem.ceiling = l.mem.lent + allowed - held
	if held > allowed {
		l.shed()
		return
	}
	// Others may hold what is missing.
	if over := l.memory.held.Load() - l.memory.bound.Load(); over > 0 && len(l.memory.loops) > 1 {
		if at := l.memory.woken.Load(); l.wall.UnixMilli() > at && l.memory.woken.CompareAndSwap(at, l.wall.UnixMilli()) {
			l.memory.wake(l)
		}
	}
}

// trim frees what was kept for later and not needed.
func (l *Loop) trim() {
	l.mem.trimAt = 0
	for i := range l.buffers.idle {
		l.buffers.idle[i].Trim(l.buffers.free)
	}
	l.pipes.Trim(l.closePipe)
	l.outputs.Trim(func(*output) {})
	l.ties.Trim(func(*tie) {})
	for _, f := range l.mem.trims {
		f()
	}
	l.mem.trimAt = l.now + trimEvery
}

// trimDue returns when an idle loop has to wake to free buffers and pipes, on its clock; 0 if
// it keeps none.
func (l *Loop) trimDue() int64 {
	if l.mem.kept > 0 || l.pipes.Len() > 0 {
		return l.mem.trimAt
	}
	return 0
}
