package stats

import (
	"sync/atomic"
	"unsafe"

	"reuseportd/internal/eventloop"
)

// PageSize is the size in bytes of one loop's share: a memory page of its own,
// so that two loops never write to the same cache line.
const PageSize = 4096

// Version is the meaning of the words in a page. New counters are appended
// (eventloop.Counters says so) An older reader doesn't see them, and a newer reader finds
// zeros if the writer is older; neither changes Version.
const Version = 1

// header is "rpdstat" and the version; it also shows the byte order.
const header = uint64(0x7270_6473_7461_7400) | Version

// page is the layout of one loop's memory.
type page struct {
	header uint64
	_      [7]uint64 // the counters begin on a cache line of their own
	words  words
}

// words are the counters of a page: those that this release has, and those that a newer
// release may have appended.
type words [PageSize/8 - 8]uint64

const (
	known = unsafe.Sizeof(eventloop.Counters{}) / 8
	// The number of open connections isn't added to the past.
	open         = unsafe.Offsetof(eventloop.Counters{}.Open) / 8
	upstreamOpen = unsafe.Offsetof(eventloop.Counters{}.UpstreamOpen) / 8
)

// The words must hold every counter; this doesn't compile when they can't.
const _ = unsafe.Sizeof(words{}) - unsafe.Sizeof(eventloop.Counters{})

func (w *words) counters() *eventloop.Counters {
	return (*eventloop.Counters)(unsafe.Pointer(w))
}

// read returns a copy of the counters, each loaded by itself.
func (w *words) read() (c eventloop.Counters) {
	to := (*[known]uint64)(unsafe.Pointer(&c))
	for i := range to {
		to[i] = atomic.LoadUint64(&w[i])
	}
	return c
}
