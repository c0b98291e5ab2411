package masters

import (
	"fmt"
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"reuseportd/internal/control"
	"reuseportd/internal/custody"
	"reuseportd/internal/wire"
	"reuseportd/test/harness"
	"reuseportd/test/kit"
)

// TestNextMasterSendsDescriptors is a next master that sends descriptors, which it has no reason
// to, and gives up: the master keeps none of them.
func TestNextMasterSendsDescriptors(t *testing.T) {
	s := harness.Start(t, harness.Default(t))
	before := s.WaitServing(1)
	null, err := os.Open(os.DevNull)
	kit.Must(t, err)
	defer null.Close()
	many := slices.Repeat([]int{int(null.Fd())}, wire.MaxFDs)
	for _, kind := range []wire.Kind{wire.KindHello, wire.KindCommit, wire.KindFailed, wire.KindGoodbye} {
		client, err := control.Dial(s.RuntimeDir, false)
		kit.Must(t, err)
		resp, err := client.Do(t.Context(), control.Request{Command: "takeover", Cause: "test"})
		kit.Must(t, err)
		client.Close()
		fd, err := unix.FcntlInt(resp.File.Fd(), unix.F_DUPFD_CLOEXEC, 3)
		kit.Must(t, err)
		resp.File.Close()
		ch, err := wire.FromFD(fd)
		kit.Must(t, err)
		if kind == wire.KindGoodbye { // in the place of Taken
			kit.Must(t, ch.Send(wire.KindCommit, struct{}{}))
		}
		kit.Must(t, ch.Send(kind, custody.Hello{PID: 1}, many...))
		kit.Must(t, ch.Close())
		s.WaitStatus("the takeover to be given up", func(st *control.Status) bool {
			return st.Change == "" && st.LastChange.Action == "takeover"
		})
	}
	kit.Unchanged(t, s, before)
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", before.PID))
	kit.Must(t, err)
	nulls := 0
	for _, e := range entries {
		if name, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", before.PID, e.Name())); name == os.DevNull {
			nulls++
		}
	}
	if nulls > 3 {
		t.Errorf("master %d has %s open %d times", before.PID, os.DevNull, nulls)
	}
	s.Stop()
}
