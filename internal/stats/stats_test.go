package stats

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"reuseportd/internal/memfd"
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

// dup returns another descriptor of the region's memory.
func dup(t *testing.T, r *Region) int {
	t.Helper()
	fd, err := unix.FcntlInt(uintptr(r.FD()), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

func TestReadersSeeTheWriter(t *testing.T) {
	l := newLedger(t)
	first := reserve(t, l, 1, 1)
	w, err := MapPages(dup(t, l.Region), first, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	for n := range uint64(1000) {
		w.Page(0).Requests++
		if got := l.Read(first).Requests; got != n+1 {
			t.Fatalf("got %d after %d", got, n+1)
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
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, memfd.FixedSize); err != nil {
			t.Fatal(err)
		}
	}
	return fd
}

func wantClosed(t *testing.T, name string, fd int) {
	t.Helper()
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil {
		t.Errorf("%s: the descriptor is still open", name)
	}
}
