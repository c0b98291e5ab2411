package sandbox

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// TestAsUserLeavesTheFirstThread: whoever started the process with a signal for its own death (Pdeathsig), as `bench accept`
// starts masters, would lose it if the first thread changed its identity.
func TestAsUserLeavesTheFirstThread(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // the more often a goroutine gets the first thread
	for n := range 2000 {
		on, err := AsUser(nil, func() (int, error) { return unix.Gettid(), nil }, nil)
		if err != nil {
			t.Fatal(err)
		}
		if on == unix.Getpid() {
			t.Fatalf("call %d was on the first thread", n)
		}
	}
}
