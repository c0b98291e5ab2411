package threads

import (
	"os"
	"testing"
)

// TestReserve: the threads are there after, and are used again.
func TestReserve(t *testing.T) {
	const n = 20
	Reserve(n)()
	first := count(t)
	if first < n {
		t.Errorf("%d threads, want %d", first, n)
	}
	for range 50 {
		Reserve(n)()
	}
	if again := count(t); again > first+n { // some are on their way to be idle when they are needed, on a busy machine
		t.Errorf("%d threads, %d before: each round has made some", again, first)
	}
}

func count(t *testing.T) int {
	t.Helper()
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	return len(tasks)
}
