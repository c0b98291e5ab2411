package files

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A cache is not above its bounds when files grow.
func TestCacheBoundWhenFilesGrow(t *testing.T) {
	r := &Root{cache: time.Hour}
	var c fileCache
	now := time.Now()
	put := func(i, size int) {
		c.put(r, []byte(fmt.Sprintf("f%d\x00", i)), now, &unix.Stat_t{Size: int64(size)}, make([]byte, size))
	}
	for i := range maxCached {
		put(i, 1)
	}
	for i := range maxCached {
		put(i, smallFile)
	}
	if c.bytes > maxCachedBytes {
		t.Errorf("%d bytes in %d files, the bound is %d", c.bytes, len(c.files), maxCachedBytes)
	}
	// and shrink: the memory stays, uncounted
	for i := range maxCached {
		put(i, 1)
	}
	real := 0
	for _, f := range c.files {
		real += cap(f.data)
	}
	if real > maxCachedBytes {
		t.Errorf("%d bytes held, %d counted", real, c.bytes)
	}
}
