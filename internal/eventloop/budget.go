package eventloop

import (
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Budget counts the descriptors that the loops of one process hold for their clients, so that
// there is always one for what the service itself needs. All loops of a process share one; a nil
// one has no bound.
//
// What is counted has a mark that it stops at, lowest first:
//
//	clients   new connections, those that end up in the lingering state included
//	servers   connections to servers, for clients that are inside
//	files     what is sent to those, and connections that are handed over: half of the reserve
//	own       control messages, handover, DNS, profiles: never counted, never refused
//
// Invariant: used goes beyond a mark only by what came without a claim (Arrive of what was
// promised to nobody), never by a claim.
type Budget struct {
	used atomic.Int64 // by loops
	// promised to other processes' loops, and not there yet: see Promise.
	promised atomic.Int64
	marks    [marks]atomic.Int64
	fixed    atomic.Int64 // open before any loop ran: logs, shared memory, epoll instances

	mu    sync.Mutex
	loops []*Loop // guarded by mu
	asked atomic.Bool
}

// markOf is how far a kind of descriptor may go.
type markOf uint8

const (
	forClients markOf = iota
	forServers
	forFiles
	marks
)

// Reserve is the number of descriptors of limit (RLIMIT_NOFILE) that are the service's own: an eighth,
// at least 32 and at most 256, but not more than leaves clients a few.
func Reserve(limit int) int { return min(max(limit/8, 32), 256, max(limit/2, 0)) }

// minRoom is what clients may have under a limit that is too low for anything.
const minRoom = 8

// NewBudget makes the budget of this process.
func NewBudget() *Budget {
	b := new(Budget)
	b.Refresh()
	return b
}

// Settle takes what the process has open now off its limit: what it holds for as long as it lives. It
// is called before the first loop runs.
func (b *Budget) Settle() {
	// The kernel gives the lowest free number, so that many are in use.
	if fd, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 0); err == nil {
		closeFile(int32(fd))
		b.fixed.Store(int64(fd))
	}
	b.Refresh()
}

// Refresh reads the process's limit again: getrlimit(2). Anybody may have changed it, prlimit(2).
func (b *Budget) Refresh() {
	if b == nil {
		return
	}
	lim := unix.Rlimit{Cur: 1024}
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		lim.Cur = 1024
	}
	b.set(int(min(lim.Cur, 1<<30)))
}

func (b *Budget) set(limit int) {
	reserve := Reserve(limit)
	room := max(int64(limit-reserve)-b.fixed.Load(), minRoom)
	b.marks[forClients].Store(room - ahead(room))
	b.marks[forServers].Store(room)
	b.marks[forFiles].Store(room + int64(reserve)/2)
}

// ahead is how many descriptors clients leave free below the mark of servers: what one batch of
// accepted clients may need at once, and what can be closed in order before it is needed.
func ahead(room int64) int64 { return min(max(room/16, 2), 64) }

// claim takes up to n descriptors, and returns how many there were.
func (b *Budget) claim(n int, m markOf) int {
	if b == nil {
		return n
	}
	mark := b.marks[m].Load()
	after := b.used.Add(int64(n))
	if after <= mark {
		return n
	}
	back := min(after-mark, int64(n))
	b.used.Add(-back)
	return n - int(back)
}

// take counts n descriptors that are there already.
func (b *Budget) take(n int) {
	if b != nil && n != 0 {
		b.used.Add(int64(n))
	}
}

// give takes n descriptors back that are closed.
func (b *Budget) give(n int) { b.take(-n) }

// free returns how many descriptors a claim would get now, less than 0 beyond the mark.
func (b *Budget) free(m markOf) int {
	if b == nil {
		return 1 << 30
	}
	return int(b.marks[m].Load() - b.used.Load())
}

// wanted returns how many descriptors less than a batch of clients may need are free for them: above 0 they get few.
func (b *Budget) wanted() int {
	if b == nil {
		return 0
	}
	return int(ahead(b.marks[forServers].Load())) - b.free(forClients)
}

// Promise promises up to n descriptors for connections that other processes are to send to one of the
// process's loops, and returns how many; none when that many are in use that there is no more room.
// The fewer are left, the smaller the parts, for what is promised to one that has nothing more to send is
// not there for the others; and a last few are promised whatever is promised elsewhere. Promise(-n) ends a
// promise: the connections have arrived, and are counted, or won't.
func (b *Budget) Promise(n int) int {
	if n <= 0 {
		b.promised.Add(int64(n))
		return n
	}
	const least = 4
	free := b.free(forFiles)
	if free < least {
		return 0
	}
	b.mu.Lock()
	part := (free - int(b.promised.Load())) / (2 * max(len(b.loops), 1))
	b.mu.Unlock()
	n = min(n, max(part, least))
	b.promised.Add(int64(n))
	return n
}

// Used returns how many descriptors loops hold.
func (b *Budget) Used() int { return int(b.used.Load()) }

// Room returns how many clients and servers together may have.
func (b *Budget) Room() int { return int(b.marks[forServers].Load()) }

// join adds a loop to those that make room for each other.
func (b *Budget) join(l *Loop) {
	if b == nil {
		return
	}
	b.mu.Lock()
	b.loops = append(b.loops, l)
	b.mu.Unlock()
}

// ask has the other loops of the process make room for one that has nothing to close. Once one has
// looked, the loop that asked has another turn.
func (b *Budget) ask(l *Loop) {
	if b == nil || !b.asked.CompareAndSwap(false, true) {
		return
	}
	b.mu.Lock()
	others := append([]*Loop(nil), b.loops...)
	b.mu.Unlock()
	if len(others) < 2 {
		b.asked.Store(false)
		return
	}
	for _, o := range others {
		if o != l {
			o.Post(func() {
				o.makeRoom()
				b.asked.Store(false)
				l.Post(func() {})
			})
		}
	}
}
