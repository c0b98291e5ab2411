package serving

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"reuseportd/internal/control"
	"reuseportd/test/harness"
	"reuseportd/test/kit"
)

// openFDs are the numbers of a process's descriptors.
func openFDs(t *testing.T, pid int) []int {
	t.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	kit.Must(t, err)
	var fds []int
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		kit.Must(t, err)
		fds = append(fds, fd)
	}
	return fds
}

// leaveFDs bounds a process's descriptors so that it can make so many more. n < 0 is no bound but the hard one.
func leaveFDs(t *testing.T, pid, n int) {
	t.Helper()
	var l unix.Rlimit
	kit.Must(t, unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &l))
	l.Cur = l.Max
	if n >= 0 {
		taken := make(map[int]bool)
		for _, fd := range openFDs(t, pid) {
			taken[fd] = true
		}
		fd := 0
		for free := 0; free < n || taken[fd]; fd++ {
			if !taken[fd] {
				free++
			}
		}
		l.Cur = uint64(fd)
	}
	kit.Must(t, unix.Prlimit(pid, unix.RLIMIT_NOFILE, &l, nil))
}

// settledFDs counts a process's descriptors when nobody asks it anything.
func settledFDs(t *testing.T, pid int) int {
	return kit.SettledCount(t, func() int { return len(openFDs(t, pid)) })
}

// TestNoDescriptors walks through all places where the master's part of a change needs one more descriptor. Each change that
// fails says so, leaves nothing behind, and what serves serves on; the next one, with enough of them, works.
func TestNoDescriptors(t *testing.T) {
	for _, change := range []struct {
		name string
		sig  syscall.Signal
	}{{"reload", syscall.SIGHUP}, {"upgrade", syscall.SIGUSR2}} {
		t.Run(change.name, func(t *testing.T) {
			c := harness.Default(t)
			s := harness.Start(t, c)
			conns := kit.NewSteady(t, c)
			more := harness.Answer("more", harness.Local(t), "more")
			s.WriteConfig(c.WithListeners(append(c.Listeners[:2:2], more)...))
			failed, first := 0, settledFDs(t, s.PID())
			for room := 0; ; room++ {
				if room > 200 {
					t.Fatalf("with %d descriptors it can't be done", room)
				}
				pid := s.PID()
				done := strings.Count(s.Log(), `"ready_ms"`)
				leaveFDs(t, pid, room)
				kit.Must(t, syscall.Kill(pid, change.sig)) // a client of the control socket needs a descriptor, too
				s.Wait("an answer in the log", func() bool { return strings.Count(s.Log(), `"ready_ms"`) > done })
				if !harness.Gone(pid) {
					leaveFDs(t, pid, -1)
				}
				st := s.WaitStatus("the change to be over", func(st *control.Status) bool { return st.Change == "" })
				if st.LastChange.OK {
					break
				}
				failed++
				if !strings.Contains(st.LastChange.Error, "raise LimitNOFILE=") {
					t.Errorf("room for %d: %q", room, st.LastChange.Error)
				}
				s.WaitStatus("what the failed change has started to be gone", func(st *control.Status) bool { return len(st.Groups) == 1 })
				harness.Wait(t, fmt.Sprintf("no more descriptors than before, with room for %d: %s", room, st.LastChange.Error), func() bool {
					n := len(openFDs(t, pid)) // tableflip keeps one of the latest upgrade
					return n == first || n == first+1 && change.name == "upgrade"
				})
				conns.Try(t)
			}
			if failed < 3 {
				t.Errorf("only %d were refused", failed)
			}
			leaveFDs(t, s.PID(), -1)
			s.Reload() // with workers that have all descriptors
			conns.Try(t)
			if got := kit.Body(more.Address); got != "more\n" {
				t.Errorf("the new listener answers %q", got)
			}
		})
	}
}

// TestScarce has each step of a change fail for want of something: the change fails, says in what step, of what and what to do,
// leaves nothing behind, and what serves serves on; the next one works.
func TestScarce(t *testing.T) {
	hints := map[string]string{
		"EAGAIN": "raise TasksMax=", "ENOMEM": "raise the limit of the control group (MemoryMax=", "EMFILE": "raise LimitNOFILE=",
		"ENFILE": "raise fs.file-max", "ENOSPC": "the file system is full",
	}
	for _, step := range []struct {
		change, point, says string
		errnos              []string
	}{
		{"reload", "shard-socket", "socket", []string{"EMFILE", "ENFILE", "ENOMEM"}},
		{"reload", "shard-bind", "bind", []string{"ENOMEM", "ENOSPC"}},
		{"reload", "shard-listen", "listen", []string{"ENOMEM"}},
		{"reload", "memfd", "memfd_create", []string{"EMFILE", "ENFILE", "ENOMEM"}},
		{"reload", "socketpair", "socketpair", []string{"EMFILE", "ENFILE", "ENOMEM"}},
		{"reload", "fork", "fork", []string{"EAGAIN", "ENOMEM"}},
		{"reload", "worker-start", "worker ", []string{"EMFILE", "ENFILE", "ENOMEM"}},
		{"reload", "epoll", "epoll_create", []string{"EMFILE", "ENFILE", "ENOMEM"}},
		{"reload", "worker-ready", "worker ", []string{"ENOMEM"}},
		{"upgrade", "socketpair", "socketpair", []string{"ENFILE"}},
		{"upgrade", "shard-socket", "socket", []string{"ENFILE"}},
		{"upgrade", "memfd", "memfd_create", []string{"ENOMEM"}},
		{"upgrade", "fork", "fork", []string{"EAGAIN", "ENOMEM"}},
		{"upgrade", "epoll", "epoll_create", []string{"ENFILE"}},
	} {
		t.Run(step.change+" "+step.point, func(t *testing.T) {
			c := harness.Default(t)
			s := harness.Start(t, c)
			conns := kit.NewSteady(t, c)
			more := harness.Answer("more", harness.Local(t), "more")
			s.WriteConfig(c.WithListeners(append(c.Listeners[:2:2], more)...))
			first := settledFDs(t, s.PID())
			for _, errno := range step.errnos {
				s.Arm(step.point, "errno "+errno)
				pid := s.PID()
				r := s.Change(step.change)
				if r.OK || !strings.Contains(r.Error, step.says) || !strings.Contains(r.Error, hints[errno]) {
					t.Errorf("%s: %+v", errno, r)
				}
				s.WaitHit(step.point)
				s.Disarm(step.point)
				s.WaitStatus("what the failed change has started to be gone", func(st *control.Status) bool {
					return len(st.Groups) == 1 && st.Change == "" && st.Generation == 1
				})
				harness.Wait(t, "no more descriptors than before", func() bool { return len(openFDs(t, pid)) <= first+1 })
				conns.Try(t)
				if s.PID() != pid {
					t.Errorf("%s: another master serves", errno)
				}
			}
			if r := s.Change(step.change); !r.OK {
				t.Errorf("without the fault: %+v", r)
			}
			conns.Try(t)
			if got := kit.Body(more.Address); got != "more\n" {
				t.Errorf("the new listener answers %q", got)
			}
		})
	}
}

// TestFullRuntimeDirectory: what the master writes down for others is not what it serves by. A change works, and the log says
// what could not be written where.
func TestFullRuntimeDirectory(t *testing.T) {
	for _, file := range []string{"record.json", "receipts.json"} {
		t.Run(file, func(t *testing.T) {
			c := harness.Default(t)
			s := harness.Start(t, c)
			conns := kit.NewSteady(t, c)
			s.Arm("write-"+file, "errno ENOSPC")
			s.Reload()
			conns.Try(t)
			s.WaitLog("the file system of " + s.RuntimeDir + "/" + file + ".new is full")
			s.Disarm("write-" + file)
			s.Upgrade()
			conns.Try(t)
			s.Kill9Master()
			s.Run()
			s.WaitServing(1)
			conns.Try(t)
		})
	}
}
