package upstream

import (
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// stale is for how long nobody has had a server on a list or in use when its entry may
// become another's, nanoseconds.
const stale = int64(10 * time.Minute)

// key is what an entry is about. Its name is empty for servers: a server is its address.
type key struct {
	kind           uint64
	upstream, text string // text is an address or a name, "" for the upstream itself
}

// id is the first word of the entry: the same in all processes and releases, never 0.
func (k *key) id() uint64 {
	return KeyOf([]byte(k.upstream+"\x00"+string('0'+rune(k.kind))+k.text)) | 1
}

// fits tells whether a board can write it down.
func (k *key) fits() bool {
	switch k.kind {
	case ofServer:
		return len(k.upstream) <= 64 && len(k.text) <= 128
	case ofName:
		return len(k.upstream) <= 64 && len(k.text) <= 272
	}
	return len(k.upstream) <= 64
}

func (e *entry) is(k *key) bool {
	if e.kind.Load() != k.kind || load(e.upstream[:]) != k.upstream {
		return false
	}
	switch k.kind {
	case ofServer:
		return load(e.address[:]) == k.text
	case ofName:
		return load(e.name[:]) == k.text
	}
	return true
}

// known returns the entries that ever were.
func (b *Board) known() []entry { return b.entries[:min(b.used.Load(), maxEntries)] }

// find returns the number of the entry of k, -1 if it has none.
func (b *Board) find(k *key) int {
	id := k.id()
	for i := range b.known() {
		if e := &b.entries[i]; e.id.Load() == id && e.is(k) && e.id.Load() == id {
			return i
		}
	}
	return -1
}

// claim returns the number of the entry of k, which it makes if there is none; -1 if
// all are taken, or nobody could be kept from taking the same one. now is written into it, and
// for as long as that is done again at times it stays k's.
func (b *Board) claim(k *key, now int64) int {
	if !k.fits() {
		return -1
	}
	if i := b.find(k); i >= 0 {
		e := &b.entries[i]
		e.touched.Store(now)
		if e.id.Load() != 0 { // sweep hasn't taken it, and now it doesn't
			return i
		}
	}
	if !b.lock() {
		return -1
	}
	defer b.unlock()
	if i := b.find(k); i >= 0 {
		b.entries[i].touched.Store(now)
		return i
	}
	i := b.free(now)
	if i < 0 {
		return -1
	}
	e := &b.entries[i]
	e.clear()
	store(e.upstream[:], k.upstream)
	switch k.kind {
	case ofServer:
		b.strike(i)
		store(e.address[:], k.text)
	case ofName:
		store(e.name[:], k.text)
	}
	e.kind.Store(k.kind)
	e.touched.Store(now)
	e.id.Store(k.id()) // now it is
	return i
}

// free returns a free entry, and makes one if it must and can.
func (b *Board) free(now int64) int {
	used := len(b.known())
	for i := range b.entries[:used] {
		if b.entries[i].id.Load() == 0 {
			return i
		}
	}
	if used < maxEntries {
		b.used.Store(uint64(used) + 1)
		return used
	}
	for i := range b.entries {
		if b.sweep(i, now) {
			return i
		}
	}
	return -1
}

// sweep frees an entry that nobody has had for long. A claim that finds it at this
// moment has touched it before it looks at id again, and a loop has counted itself: one of the two
// sees the other. A worker that was stopped for so long finds another id, or none.
func (b *Board) sweep(i int, now int64) bool {
	e := &b.entries[i]
	id := e.id.Load()
	if now-e.touched.Load() < stale || b.inUse(i) > 0 {
		return false
	}
	e.id.Store(0)
	if now-e.touched.Load() < stale || b.inUse(i) > 0 {
		e.id.Store(id)
		return false
	}
	return true
}

// clear makes all words but id zero.
func (e *entry) clear() {
	words := e.words()
	for i := 1; i < len(words); i++ {
		words[i].Store(0)
	}
}

// claiming is for the goroutines of a process what lock is for processes.
var claiming sync.Mutex

// lock keeps others from making and freeing entries: a lock of the kernel's, which ends
// with its holder's process and not before (fcntl(2), F_SETLK). It doesn't wait for a
// holder that is stopped.
func (b *Board) lock() bool {
	claiming.Lock()
	begun := time.Now()
	for {
		err := unix.FcntlFlock(uintptr(b.fd), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK, Len: 1})
		if err == nil {
			return true
		}
		if now := time.Now(); now.Before(b.patience) || now.Sub(begun) > time.Second {
			b.patience = now.Add(10 * time.Second)
			claiming.Unlock()
			return false
		}
		time.Sleep(time.Millisecond)
	}
}

func (b *Board) unlock() {
	_ = unix.FcntlFlock(uintptr(b.fd), unix.F_SETLK, &unix.Flock_t{Type: unix.F_UNLCK, Len: 1})
	claiming.Unlock()
}

func (e *entry) words() *[128]atomic.Uint64 {
	return (*[128]atomic.Uint64)(unsafe.Pointer(e))
}
