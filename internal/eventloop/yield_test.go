package eventloop

import (
	"runtime"
	"sync/atomic"
	"testing"
)

// A loop in the middle of a long turn lets others run, once in a while.
func TestBreathe(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	l, _ := still(t, &noted{}, 0)
	var runs atomic.Int64
	try := func(yielded int64) int64 {
		before := runs.Load()
		done := make(chan struct{})
		go func() { runs.Add(1); close(done) }()
		for range 2 { // the scheduler serves whoever has let go first, one time in 61
			l.yielded = yielded
			l.yield(l.clock())
		}
		after := runs.Load()
		<-done
		return after - before
	}
	if try(-2*yieldAfter) != 1 {
		t.Error("nobody could run")
	}
	if try(1<<62) != 0 {
		t.Error("it let go without need")
	}
}
