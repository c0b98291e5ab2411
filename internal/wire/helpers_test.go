package wire

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// pair returns both ends of a channel in this process, closed with the test,
// which fails if it leaves more descriptors open than it found.
func pair(t *testing.T) (a, b *Conn) {
	t.Helper()
	before := openFDs(t)
	a, file, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	if b, err = FromFD(fd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = a.Close()
		_ = b.Close()
		if after := openFDs(t); len(after) > len(before) {
			t.Errorf("%d descriptors before, %d after: %v", len(before), len(after), after)
		}
	})
	return a, b
}

// openFDs returns what is open, by descriptor, but for the runtime's poller.
func openFDs(t *testing.T) map[int]string {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	fds := map[int]string{}
	for _, e := range entries {
		n, _ := strconv.Atoi(e.Name())
		target, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err != nil || strings.HasPrefix(target, "/proc/") || strings.HasPrefix(target, "anon_inode:[event") {
			continue // the directory that was read, and the poller
		}
		fds[n] = target
	}
	return fds
}

// files opens n descriptors that are closed with the test.
func files(t *testing.T, n int) []int {
	t.Helper()
	fds := make([]int, n)
	for i := range fds {
		fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		fds[i] = fd
		t.Cleanup(func() { _ = unix.Close(fd) })
	}
	return fds
}

func expectError(t *testing.T, c *Conn, want error) {
	t.Helper()
	before := openFDs(t)
	m, err := c.Recv()
	if !errors.Is(err, want) || m.FDs != nil {
		t.Errorf("got %v with descriptors %v, want %v", err, m.FDs, want)
	}
	if after := openFDs(t); len(after) != len(before) {
		t.Errorf("descriptors: %v, then %v", before, after)
	}
}

func expectPing(t *testing.T, from, to *Conn) {
	t.Helper()
	if err := from.Send(KindPing, Ping{Seq: 1}); err != nil {
		t.Fatal(err)
	}
	if m, err := to.Recv(); err != nil || m.Kind != KindPing {
		t.Errorf("got %s, %v", m.Kind, err)
	}
}
