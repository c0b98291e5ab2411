package stats

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"reuseportd/internal/eventloop"
)

// TestMain is another process with descriptor 3, when it is run as that. It
// dies without a word.
func TestMain(m *testing.M) {
	args := strings.Fields(os.Getenv("STATS_TEST_PROCESS"))
	if len(args) == 0 {
		os.Exit(m.Run())
	}
	processes[args[0]](args[1:])
	killSelf()
}

var processes = map[string]func(args []string){
	// region counts on page 1.
	"region": func([]string) {
		r, err := Open(3)
		if err != nil {
			panic(err)
		}
		r.Page(1).Accepted = 5
		r.Page(1).Wakeups = 7
	},
	// worker first n: counts on the last of its pages in the ledger.
	"worker": func(args []string) {
		r, err := MapPages(3, number(args[0]), number(args[1]))
		if err != nil {
			panic(err)
		}
		r.Page(r.Len() - 1).Accepted += 5
		r.Page(r.Len() - 1).Open = 1
	},
	// master first n k: dies at the k-th store of a fold.
	"master": func(args []string) {
		l, err := OpenLedger(3)
		if err != nil {
			panic(err)
		}
		k := number(args[2])
		l.stored = func() {
			if k--; k == 0 {
				killSelf()
			}
		}
		l.Fold(number(args[0]), number(args[1]))
	},
}

func killSelf() {
	_ = unix.Kill(os.Getpid(), unix.SIGKILL)
	select {}
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		panic(err)
	}
	return n
}

// process runs one of processes with the region's memory, until it is killed.
func process(t *testing.T, r *Region, args ...any) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "STATS_TEST_PROCESS="+fmt.Sprintln(args...))
	file := os.NewFile(uintptr(dup(t, r)), "stats")
	defer file.Close()
	cmd.ExtraFiles = []*os.File{file}
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err == nil || cmd.ProcessState.ExitCode() != -1 {
		t.Fatalf("%v ended with %v, want a signal", args, err)
	}
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
	process(t, r, "region")
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

// memory returns a memfd of zeros.
func memory(t *testing.T, size int64, seal bool) int {
	t.Helper()
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

func TestOpenRefuses(t *testing.T) {
	newer := create1(t, 1)
	newer.page(0).header++
	for name, fd := range map[string]int{
		"another version":  dup(t, newer),
		"memory unsealed":  memory(t, PageSize, false),
		"memory of zeros":  memory(t, PageSize, true),
		"no memory":        memory(t, 0, true),
		"half a page":      memory(t, PageSize/2, true),
		"far too many":     memory(t, (MaxPages+1)*PageSize, true),
		"not a descriptor": -1,
	} {
		if r, err := Open(fd); err == nil {
			t.Errorf("%s: opened %d pages", name, r.Len())
		}
		wantClosed(t, name, fd)
	}
}

func wantClosed(t *testing.T, name string, fd int) {
	t.Helper()
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil {
		t.Errorf("%s: the descriptor is still open", name)
	}
}
