package upstream

import (
	"sync/atomic"
	"unsafe"
)

const (
	maxEntries = 1024
	maxRows    = 4096 // a row for each page of a ledger
)

// version is the meaning of the words of a board. New ones are appended to the counters
// of an entry: an older reader doesn't see them, and a newer one finds zeros if the
// writer is older. Neither changes version.
const version = 1

// header is "rpdupst" and the version; it also shows the byte order.
const header = uint64(0x7270_6475_7073_7400) | version

// memory is the layout of a board. Pages that nobody has touched cost nothing.
type memory struct {
	header uint64
	// used is how many entries were ever used. The others are not read, since that would
	// allocate them.
	used atomic.Uint64
	// rowWords has a bit for each word of rows that may be other than zero. Bits are never
	// cleared.
	rowWords atomic.Uint64
	_        [5]uint64
	// rows has a bit for each row that may hold anything but zeros. A sum reads only those,
	// and so doesn't allocate the others.
	rows    [maxRows / 64]atomic.Uint64
	_       [512 - 8 - maxRows/64]uint64
	entries [maxEntries]entry
	cells   [maxRows]row
}

// row is how many sessions a loop has at the server of each entry. Only the loop writes
// it, so what a killed loop leaves is known and can be cleared.
type row [maxEntries]atomic.Uint32

// entry is what is known about a server, a name that is looked up, or an upstream.
//
// Any process may be killed or stopped between any two stores. So each change of state is
// one store, or takes effect with one store (to id, checkDown or ejectedUntil) after the
// others.
type entry struct {
	// What every Pick reads.
	id           atomic.Uint64 // key.id; 0: free. Invariant: the texts and the kind match it.
	checkDown    atomic.Int64  // since when its checks fail; 0: they don't
	ejectedUntil atomic.Int64  // ejected while that is in the future
	upSince      atomic.Int64  // when checks brought it up again; 0: never
	failures     atomic.Uint64 // in a row
	_            [3]uint64

	// These change seldom.
	touched   atomic.Int64 // when a worker last had it in use or on a list
	ejectedAt atomic.Int64
	nextCheck atomic.Int64  // the worker that advances it makes the check
	rises     atomic.Uint64 // good checks in a row
	falls     atomic.Uint64 // bad ones
	answer    atomic.Uint64 // of a name: hash of its last answer, so that only one worker reports a change
	resolved  atomic.Uint64 // of a name: 1 if it has addresses
	_         uint64

	// What the configuration says, for readers of the board that have no configuration.
	weight    atomic.Uint64
	bound     atomic.Uint64 // max_connections
	backup    atomic.Uint64 // 1: it is a backup
	order     atomic.Uint64 // place in the configuration
	slowStart atomic.Int64
	_         [3]uint64

	counters counters // of a name: lastAnswer

	kind     atomic.Uint64
	upstream text8
	address  text16
	name     text34
	_        [64 - 1 - 8 - 16 - 34]uint64
}

// counters only grow.
type counters struct {
	sessions, connects, retries, ejections, full atomic.Uint64
	checksOK, checksFailed                       atomic.Uint64
	bytesIn, bytesOut                            atomic.Uint64
	turnedAway, dnsFailures                      atomic.Uint64 // of an upstream
	_                                            [5]uint64
	failures                                     [maxReasons]atomic.Uint64
	_                                            [8]uint64
}

// The kinds of entries.
const (
	ofServer = 1 + iota
	ofName
	ofUpstream
)

// Texts consist of words as well, so that a reader during a write gets wrong text at
// worst.
type (
	text8  [8]atomic.Uint64  // an upstream: at most 64 bytes
	text16 [16]atomic.Uint64 // an address: a Unix socket's path has at most 107
	text34 [34]atomic.Uint64 // a name with its port: at most 260
)

// An entry has 1 KiB, a row 4 KiB, and both arrays begin at a page; this doesn't compile
// otherwise.
const (
	_ = -(unsafe.Sizeof(entry{}) - 1024)
	_ = -(1024 - unsafe.Sizeof(entry{}))
	_ = -(unsafe.Offsetof(memory{}.entries) % 4096)
	_ = -(unsafe.Offsetof(memory{}.cells) % 4096)
)

func store(to []atomic.Uint64, text string) {
	for i := range to {
		var w uint64
		for j := range 8 {
			if at := i*8 + j; at < len(text) {
				w |= uint64(text[at]) << (8 * j)
			}
		}
		to[i].Store(w)
	}
}

func load(from []atomic.Uint64) string {
	b := make([]byte, 0, len(from)*8)
	for i := range from {
		for w := from[i].Load(); w != 0; w >>= 8 {
			b = append(b, byte(w))
		}
	}
	return string(b)
}
