package stats

import (
	"fmt"
	"hash/fnv"
	"sync/atomic"
	"unsafe"

	"reuseportd/internal/eventloop"
)

// MaxLocks is how many mutexes a ledger has. They are in the ledger because all processes
// of the service share it, and it outlives each of them.
const MaxLocks = 32

// lock is a mutex for the loops that share a socket. It has a cache line of its own.
type lock struct {
	tag  uint64 // hash of the mutex's name; 0: free
	word uint32 // eventloop.Sharing.Mutex
	_    [13]uint32
}

// Mutex returns the number of the mutex with a name, and makes it if there is none; ok is
// false if all are taken. Only the master calls it.
func (l *Ledger) Mutex(name string) (i int, ok bool) {
	tag := tagOf(name)
	free := -1
	for i := range l.head().locks {
		switch atomic.LoadUint64(&l.head().locks[i].tag) {
		case tag:
			return i, true
		case 0:
			if free < 0 {
				free = i
			}
		}
	}
	if free < 0 {
		return 0, false
	}
	l.store(&l.head().locks[free].tag, tag)
	return free, true
}

// KeepLocks frees the mutexes with other names, and unlocks those whose holder is dead by
// live.
func (l *Ledger) KeepLocks(names []string, live func(pid int) bool) {
	keep := make(map[uint64]bool)
	for _, name := range names {
		keep[tagOf(name)] = true
	}
	for i := range l.head().locks {
		k := &l.head().locks[i]
		tag := atomic.LoadUint64(&k.tag)
		if tag == 0 {
			continue
		}
		if pid := eventloop.MutexHolder(&k.word); pid != 0 && !live(pid) {
			eventloop.BreakMutex(&k.word, pid)
		}
		if !keep[tag] {
			l.store(&k.tag, 0)
		}
	}
}

func tagOf(name string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name))
	return h.Sum64() | 1
}

// Lock returns the word of mutex i of the region's ledger. It is valid until Close.
func (r *Region) Lock(i int) (*uint32, error) {
	if i < 0 || i >= MaxLocks {
		return nil, fmt.Errorf("statistics: no mutex %d, the ledger has %d", i, MaxLocks)
	}
	return &(*head)(unsafe.Pointer(&r.head[0])).locks[i].word, nil
}
