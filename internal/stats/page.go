package stats

import (
	"fmt"
	"unsafe"

	"reuseportd/internal/eventloop"
)

// PageSize is the size in bytes of one loop's share: a memory page of its own,
// so that two loops never write to the same cache line.
const PageSize = 4096

// Version is the meaning of the words in a page. New counters are appended
// (eventloop.Counters says so) and an older reader doesn't see them, a newer
// reader finds zeros where an older writer has none; neither changes Version.
const Version = 1

// header begins with "rpdstat" and the version, so that it also tells byte order.
const header = uint64(0x7270_6473_7461_7400) | Version

// page is the layout of one loop's memory.
type page struct {
	header   uint64
	_        [7]uint64 // the counters begin on a cache line of their own
	counters eventloop.Counters
}

const words = unsafe.Sizeof(eventloop.Counters{}) / 8

// A page must hold every counter; this doesn't compile when it can't.
const _ = PageSize - unsafe.Sizeof(page{})

func (p *page) check(i int) error {
	if p.header != header {
		return fmt.Errorf("statistics page %d: header %#x, this release knows %#x", i, p.header, header)
	}
	return nil
}
