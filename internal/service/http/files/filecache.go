package files

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Bounds of a fileCache. When it is full it is emptied.
const (
	maxCached      = 1024    // files
	maxCachedBytes = 4 << 20 // of all files together
)

// fileCache is a loop's memory of a listener's small files, by root and name. It holds no descriptors.
type fileCache struct {
	files map[cacheKey]*cachedFile
	bytes int // of memory, names included; a file's buffer keeps its size when the file shrinks
}

type cacheKey struct {
	root *Root
	name string
}

// cachedFile is a file as it was when it was last read. Its bytes match its validators.
type cachedFile struct {
	stat  unix.Stat_t
	data  []byte
	until time.Time
}

// find returns a file that may still be answered from memory, or nil.
func (c *fileCache) find(r *Root, name []byte, now time.Time) *cachedFile {
	if r.cache == 0 {
		return nil
	}
	f := c.files[cacheKey{r, string(name)}]
	if f == nil || !now.Before(f.until) {
		return nil
	}
	return f
}

// put keeps a copy of a file that has just been read whole.
func (c *fileCache) put(r *Root, name []byte, now time.Time, st *unix.Stat_t, data []byte) {
	if len(data) == 0 || int64(len(data)) != st.Size {
		return
	}
	f := c.files[cacheKey{r, string(name)}]
	if f != nil && len(data) > cap(f.data) {
		c.bytes -= cost(name, cap(f.data))
		delete(c.files, cacheKey{r, string(name)})
		f = nil
	}
	if f == nil {
		if c.files == nil || len(c.files) >= maxCached || c.bytes+cost(name, len(data)) > maxCachedBytes {
			c.files, c.bytes = make(map[cacheKey]*cachedFile), 0
		}
		f = &cachedFile{data: make([]byte, 0, len(data))}
		c.files[cacheKey{r, string(name)}] = f
		c.bytes += cost(name, len(data)) // its buffer stays as large
	}
	f.stat, f.data, f.until = *st, append(f.data[:0], data...), now.Add(r.cache)
}

// cost is the memory that a file takes, in bytes.
func cost(name []byte, data int) int {
	return len(name) + data + int(unsafe.Sizeof(cacheKey{})+unsafe.Sizeof(cachedFile{}))
}
