package upstream

import (
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// stale is how long no worker must have had a server on a list or in use before its entry
// may be reused, in nanoseconds.
const stale = int64(10 * time.Minute)

// key identifies the subject of an entry: an upstream, one of its servers, or a name.
type key struct {
	kind           uint64
	upstream, text string // text is an address or a name; "" for the upstream itself
}

// id returns the first word of the entry, which is the same in all processes and
// releases, and never 0.
func (k *key) id() uint64 {
	return KeyOf([]byte(k.upstream+"\x00"+string('0'+rune(k.kind))+k.text)) | 1
}

// fits reports whether an entry has room for the key.
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

// known returns all entries that were ever used.
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

// claim returns the number of the entry of k, and makes one if there is none; -1 if all are
// taken, or the lock wasn't available. It writes now into the entry; if that is repeated from
// time to time the entry stays k's.
func (b *Board) claim(k *key, now int64) int {
	if !k.fits() {
		return -1
	}
	if i := b.find(k); i >= 0 {
		e := &b.entries[i]
		e.touched.Store(now)
		if e.id.Load() != 0 { // sweep hasn't freed it, and from now on doesn't
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
	e.id.Store(k.id()) // now it is valid
	return i
}

// free returns a free entry; if there is none it tries to free a stale one.
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

// sweep frees an entry that nobody has used for long. A claim that finds the entry at this moment
// touches it before it reads id again, and a loop counts itself before it does: so one of the two
// sees the other. A worker that was stopped for so long finds another id, or 0.
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

// clear sets all words but id to zero.
func (e *entry) clear() {
	words := e.words()
	for i := 1; i < len(words); i++ {
		words[i].Store(0)
	}
}

// claiming serializes the goroutines of a process, as lock does for processes.
var claiming sync.Mutex

// lock keeps other processes from making and freeing entries. It is a kernel lock, which
// ends at the latest with its holder's process (fcntl(2), F_SETLK). It doesn't wait for a
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
