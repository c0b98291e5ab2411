package stats

import (
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"

	"reuseportd/internal/eventloop"
)

// TestMain is the writer in another process, when it is run as that: it counts
// on page 1 of descriptor 3 and dies without a word.
func TestMain(m *testing.M) {
	if os.Getenv("STATS_TEST_WRITER") == "" {
		os.Exit(m.Run())
	}
	r, err := Open(3)
	if err != nil {
		panic(err)
	}
	r.Page(1).Accepted = 5
	r.Page(1).Wakeups = 7
	_ = unix.Kill(os.Getpid(), unix.SIGKILL)
	select {}
}

func create1(t *testing.T, pages int) *Region {
	t.Helper()
	r, err := Create(pages)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if err := r.Close(); err != nil {
			t.Errorf("closed twice: %v", err)
		}
	})
	return r
}

// dup returns another descriptor of the region's memory.
func dup(t *testing.T, r *Region) int {
	t.Helper()
	fd, err := unix.FcntlInt(uintptr(r.FD()), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

func TestCountersOutliveTheirWriter(t *testing.T) {
	r := create1(t, 2)
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "STATS_TEST_WRITER=1")
	file := os.NewFile(uintptr(dup(t, r)), "stats")
	defer file.Close()
	cmd.ExtraFiles = []*os.File{file}
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err == nil || cmd.ProcessState.ExitCode() != -1 {
		t.Fatalf("the writer ended with %v, want a signal", err)
	}
	if got, want := r.Read(1), (eventloop.Counters{Accepted: 5, Wakeups: 7}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := r.Read(0); got != (eventloop.Counters{}) {
		t.Errorf("page 0: %+v", got)
	}
}

func TestReadersSeeTheWriter(t *testing.T) {
	w := create1(t, 1)
	r, err := Open(dup(t, w))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for n := range uint64(1000) {
		w.Page(0).Requests++
		if got := r.Read(0).Requests; got != n+1 {
			t.Fatalf("got %d after %d", got, n+1)
		}
	}
}

func TestSizeIsFixed(t *testing.T) {
	r := create1(t, 1)
	for _, size := range []int64{0, 2 * PageSize} {
		if err := unix.Ftruncate(r.FD(), size); err == nil {
			t.Errorf("truncated to %d", size)
		}
	}
	for _, pages := range []int{-1, 0, MaxPages + 1} {
		if _, err := Create(pages); err == nil {
			t.Errorf("made %d pages", pages)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	memory := func(size int64, seal bool) int {
		fd, err := unix.MemfdCreate("test", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Ftruncate(fd, size); err != nil {
			t.Fatal(err)
		}
		if seal {
			if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
				t.Fatal(err)
			}
		}
		return fd
	}
	newer := create1(t, 1)
	newer.page(0).header++
	for name, fd := range map[string]int{
		"another version":  dup(t, newer),
		"memory unsealed":  memory(PageSize, false),
		"memory of zeros":  memory(PageSize, true),
		"no memory":        memory(0, true),
		"half a page":      memory(PageSize/2, true),
		"far too many":     memory((MaxPages+1)*PageSize, true),
		"not a descriptor": -1,
	} {
		if r, err := Open(fd); err == nil {
			t.Errorf("%s: opened %d pages", name, r.Len())
		}
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil {
			t.Errorf("%s: the descriptor is still open", name)
		}
	}
}
