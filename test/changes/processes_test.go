package changes

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"reuseportd/internal/control"
	"reuseportd/test/harness"
	"reuseportd/test/kit"
	"reuseportd/test/meter"
)

// bound is a limit of processes and threads for a server: how many there are, and how many there may be.
type bound struct {
	count func() int
	limit func(int)
}

// TestNoProcesses walks through all places where a change needs one more process or thread: there is room for none, for
// one, for two …, until the change works. Each one that fails says why, and what serves serves on.
func TestNoProcesses(t *testing.T) {
	for name, start := range map[string]func(*testing.T, harness.Config) (*harness.Server, bound){
		"RLIMIT_NPROC": startAsNumber, "pids.max": startInPidsGroup,
	} {
		t.Run(name, func(t *testing.T) {
			c := harness.Default(t)
			s, b := start(t, c)
			for _, change := range []string{"reload", "upgrade"} {
				walkProcesses(t, s, c, b, change)
			}
		})
	}
}

func walkProcesses(t *testing.T, s *harness.Server, c harness.Config, b bound, change string) {
	st := waitQuiet(s, 1)
	generation, master, failed := st.Generation, s.PID(), 0
	kit.LosingNothing(t, kit.Clients(c), func(m *meter.Meter) {
		for room := 0; ; room += 1 + room/8 {
			if room > 200 {
				t.Fatalf("%s: with room for %d it can't be done", change, room)
			}
			b.limit(b.count() + room)
			m.Mark("%s with room for %d", change, room)
			r := s.Change(change)
			if r.OK {
				b.limit(1 << 20)
				break
			}
			failed++
			if !strings.Contains(r.Error, ": raise TasksMax=") {
				t.Errorf("%s with room for %d: %q", change, room, r.Error)
			}
			st := s.WaitStatus("what the failed change has started to be gone", func(st *control.Status) bool {
				return len(st.Groups) == 1 && st.Change == ""
			})
			if st.Generation != generation || s.PID() != master {
				t.Errorf("generation %d of PID %d serves, %d of %d before", st.Generation, s.PID(), generation, master)
			}
		}
		s.WaitStatus("the old generation to be gone", func(st *control.Status) bool { return len(st.Groups) == 1 })
	})
	if failed < 3 {
		t.Errorf("%s: only %d were refused", change, failed)
	}
	for _, w := range kit.Workers(s.Status()) {
		if w.Restarts > 0 {
			t.Errorf("%s: a worker of the old generation has died: %+v", change, w)
		}
	}
}

// startAsNumber starts a server as a user that nothing else runs as, for RLIMIT_NPROC counts by user. The limit stands: as
// many others of that user come as are to be missing.
func startAsNumber(t *testing.T, c harness.Config) (*harness.Server, bound) {
	if os.Geteuid() != 0 {
		t.Skip("only root can start it as a user that has no other processes")
	}
	const most = 140
	uid := 1_000_000 + os.Getpid()
	s := harness.Prepare(t, c)
	kit.Must(t, filepath.Walk(s.Dir, func(path string, _ os.FileInfo, err error) error {
		return errors.Join(err, os.Lchown(path, uid, uid))
	}))
	as := &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}
	s.Run(func(s *harness.Server, cmd *exec.Cmd) {
		script := s.Script(fmt.Sprintf("if (ulimit -u %[1]d) 2>&-; then ulimit -u %[1]d; else ulimit -p %[1]d; fi && exec \"$@\"", most))
		kit.Must(t, os.Chmod(script, 0o755))
		cmd.Path, cmd.Args = script, append([]string{script, s.Binary}, cmd.Args[1:]...)
		cmd.SysProcAttr.Credential = as
	})
	s.WaitServing(1)
	var others []*exec.Cmd
	limit := func(n int) {
		for ; len(others) > max(0, most-n); others = others[1:] {
			_ = others[0].Process.Kill()
			_ = others[0].Wait()
		}
		for len(others) < most-n {
			other := exec.Command("sleep", "infinity")
			other.SysProcAttr = &syscall.SysProcAttr{Credential: as, Pdeathsig: syscall.SIGKILL}
			kit.Must(t, other.Start())
			others = append(others, other)
		}
	}
	t.Cleanup(func() { limit(most) })
	return s, bound{
		count: func() int { return kit.SettledCount(t, func() int { return tasksOf(t, uid) - len(others) }) },
		limit: limit,
	}
}

// startInPidsGroup starts a server in a control group of its own.
func startInPidsGroup(t *testing.T, c harness.Config) (*harness.Server, bound) {
	var dir string
	for _, root := range []string{"/sys/fs/cgroup/pids", "/sys/fs/cgroup"} {
		at := filepath.Join(root, fmt.Sprintf("reuseportd-test-pids-%d", os.Getpid()))
		if os.Mkdir(at, 0o755) != nil {
			continue
		}
		t.Cleanup(func() {
			harness.Wait(t, "the group to be empty", func() bool { return os.Remove(at) == nil })
		})
		if _, err := os.Stat(filepath.Join(at, "pids.max")); err == nil {
			dir = at
			break
		}
	}
	if dir == "" {
		t.Skip("no control group for processes can be made here: that takes root, and the pids controller")
	}
	s := harness.Prepare(t, c)
	s.Run(harness.InGroup(filepath.Join(dir, "cgroup.procs")))
	s.WaitServing(1)
	return s, bound{
		count: func() int {
			return kit.SettledCount(t, func() int {
				text, err := os.ReadFile(filepath.Join(dir, "pids.current"))
				kit.Must(t, err)
				n, err := strconv.Atoi(strings.TrimSpace(string(text)))
				kit.Must(t, err)
				return n
			})
		},
		limit: func(n int) { kit.Must(t, os.WriteFile(filepath.Join(dir, "pids.max"), fmt.Append(nil, n), 0)) },
	}
}

// tasksOf counts the threads of all processes of a user.
func tasksOf(t *testing.T, uid int) int {
	procs, err := filepath.Glob("/proc/[0-9]*")
	kit.Must(t, err)
	n := 0
	for _, p := range procs {
		if info, err := os.Stat(p + "/task"); err == nil && int(info.Sys().(*syscall.Stat_t).Uid) != uid {
			status, err := os.ReadFile(p + "/status") // what isn't dumpable is root's
			if err != nil || !strings.Contains(string(status), fmt.Sprintf("\nUid:\t%d\t", uid)) {
				continue
			}
		}
		tasks, _ := os.ReadDir(p + "/task")
		n += len(tasks)
	}
	return n
}

// A worker that ends where it begins can't say why on its channel: the receipt has what it has written, or that it was
// not the master who ended it.
func TestWorkerEndsWhereItBegins(t *testing.T) {
	c := harness.Default(t)
	s := harness.Start(t, c)
	s.AllowPanic()
	conns := kit.NewSteady(t, c)
	s.Arm("worker-start", harness.Panic)
	if r := s.Change("reload"); r.OK || !strings.Contains(r.Error, "exit status 2: panic: failpoint worker-start") {
		t.Errorf("a panic: %+v", r)
	}
	s.WaitLog("main.main()") // its stack
	s.Disarm("worker-start")

	s.Arm("worker-start", harness.Pause)
	receipt := make(chan *control.Receipt, 1)
	go func() { receipt <- s.Change("reload") }()
	kit.Must(t, syscall.Kill(s.WaitHit("worker-start"), syscall.SIGKILL))
	if r := <-receipt; r.OK || !strings.Contains(r.Error, "killed by SIGKILL, and not by the master") {
		t.Errorf("killed: %+v", r)
	}
	s.Disarm("worker-start")
	conns.Try(t)
	s.Reload()
	conns.Try(t)
}
