package eventloop

import (
	"runtime"
	"testing"
	"unsafe"
)

// TestMemoryOfOne: an idle connection costs its Conn, and next to nothing beside it. What else an idle HTTP connection
// has is measured by `go run ./bench -only memory`.
func TestMemoryOfOne(t *testing.T) {
	const most = 112
	if n := unsafe.Sizeof(Conn{}); n > most {
		t.Errorf("a Conn has %d bytes, at most %d expected", n, most)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var l table
	for fd := range int32(8 * chunk) {
		l.at(fd)
	}
	runtime.ReadMemStats(&after)
	if each := float64(after.TotalAlloc-before.TotalAlloc) / (8 * chunk); each > most+1 {
		t.Errorf("%.1f bytes are allocated for each connection of %d", each, unsafe.Sizeof(Conn{}))
	}
	runtime.KeepAlive(l)
}
