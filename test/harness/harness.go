// Package harness runs the real server in tests, as real processes.
//
// It owns the binary under test, one directory and some ports for each server, and every
// process that comes of it, upgraded masters and orphaned workers included. When a test
// ends, nothing of it may be left; the harness says what is, and only then ends it. It
// must never wait for a time, only for conditions.
package harness

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// scratch is the directory of this test run; Main removes it.
var scratch string

// Main runs a package's tests: call it from TestMain.
//
// The test process becomes the reaper of its descendants (prctl(2),
// PR_SET_CHILD_SUBREAPER), so that an upgraded master's exit status and a
// killed master's workers end here and not with process 1.
func Main(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		fmt.Fprintln(os.Stderr, "harness: become the reaper of all descendants:", err)
		return 1
	}
	// Short, for the paths of Unix sockets; and open to workers of another user.
	dir, err := os.MkdirTemp("", "rp")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "harness:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	scratch = dir
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, "harness: goroutines left:", err)
			code = 1
		}
	}
	return code
}

// counter gives names that no two servers of this run share.
var counter struct {
	sync.Mutex
	n int
}

func unique() int {
	counter.Lock()
	defer counter.Unlock()
	counter.n++
	return counter.n
}

// Dir makes a directory that workers of another user can read, as those of testing.T can't be, and
// that goes with the test.
func Dir(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(scratch, fmt.Sprint("dir", unique()))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}
