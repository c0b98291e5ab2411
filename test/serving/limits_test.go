package serving

import (
	"fmt"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/control"
	"reuseportd/test/harness"
	"reuseportd/test/kit"
)

func TestMaxConnections(t *testing.T) {
	c := harness.Default(t).WithWorkers(1).With("max_connections: 10")
	s := harness.Start(t, c)
	served := kit.Echoes(t, c.Address("echo"), 10) // idle kept ones would make room
	var waiting []*kit.Client
	for range 5 {
		conn := kit.Dial(t, c.Address("web"))
		conn.Send(kit.Get)
		waiting = append(waiting, conn)
	}
	st := s.WaitStatus("accepting to pause", func(st *control.Status) bool {
		return st.Totals.AcceptPaused > 0 && harness.ListenerAt(st, c.Address("web")).Queued == 5
	})
	if w := kit.Only(t, st); w.Connections != 10 {
		t.Errorf("%d connections, want 10", w.Connections)
	}
	served[0].Echo("here") // those inside are served on
	quiet(t, kit.Only(t, st).PID)
	for i, conn := range served[:5] {
		conn.Close()
		if code, _ := waiting[i].Get2(); code != 200 {
			t.Errorf("answer %d", code)
		}
	}
}

// quiet wants a process to use next to no CPU: a paused listener must not spin.
// There is no event for "nothing happens", so this takes a while.
func quiet(t *testing.T, pid int) {
	t.Helper()
	before, err := harness.ReadProcess(pid)
	kit.Must(t, err)
	time.Sleep(500 * time.Millisecond)
	after, err := harness.ReadProcess(pid)
	kit.Must(t, err)
	if used := after.CPU - before.CPU; used > 100*time.Millisecond {
		t.Errorf("worker %d used %v of 500ms", pid, used)
	}
}

func TestNoDescriptorsLeft(t *testing.T) {
	c := harness.Default(t).WithWorkers(1).AsRoot()
	s := harness.Start(t, c)
	first := kit.Echoes(t, c.Address("echo"), 1)[0]
	pid := kit.Only(t, s.WaitServing(1)).PID
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	kit.Must(t, err)
	var old unix.Rlimit
	kit.Must(t, unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &old))
	tight := unix.Rlimit{Cur: uint64(len(open) + 8), Max: old.Max}
	kit.Must(t, unix.Prlimit(pid, unix.RLIMIT_NOFILE, &tight, nil))

	var conns []*kit.Client
	for range 40 {
		conns = append(conns, kit.Dial(t, c.Address("echo"))) // which make room for nobody
	}
	st := s.WaitStatus("EMFILE to be counted", func(st *control.Status) bool { return st.Totals.AcceptNoFD > 0 })
	first.Echo("here")
	quiet(t, pid)
	if now := s.Status(); now.Totals.AcceptNoFD > st.Totals.AcceptNoFD+100 {
		t.Errorf("EMFILE met %d times meanwhile", now.Totals.AcceptNoFD-st.Totals.AcceptNoFD)
	}
	// Those that go make room for those that wait.
	for _, conn := range conns[:20] {
		conn.Echo("there is room")
		conn.Close()
	}
	kit.Must(t, unix.Prlimit(pid, unix.RLIMIT_NOFILE, &old, nil))
	for _, conn := range conns[20:] {
		conn.Echo("there is room")
	}
	if w := kit.Only(t, s.Status()); w.PID != pid {
		t.Errorf("the worker was replaced: %d by %d", pid, w.PID)
	}
}

// The limit is raised to the hard limit, in the master and in the workers, and
// stays so through reloads and upgrades.
func TestDescriptorLimitIsRaised(t *testing.T) {
	s := harness.Prepare(t, harness.Default(t).AsRoot())
	s.Run(harness.Limit(256, 4000))
	s.WaitServing(1)
	for _, what := range []string{"start", "upgrade"} {
		st := s.WaitServing(1)
		if st.NoFile != 4000 {
			t.Errorf("after the %s: limit %d in the status, want 4000", what, st.NoFile)
		}
		for _, pid := range kit.Pids(st) {
			var got unix.Rlimit
			kit.Must(t, unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &got))
			if got.Cur != 4000 {
				t.Errorf("after the %s: limit %d of worker %d, want 4000", what, got.Cur, pid)
			}
		}
		s.Upgrade()
	}
}
