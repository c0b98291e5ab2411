package masters

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/config"
	"reuseportd/internal/control"
	"reuseportd/internal/record"
	"reuseportd/internal/wire"
	"reuseportd/test/harness"
	"reuseportd/test/kit"
)

// hostile is a configuration whose workers have a user of their own.
func hostile(t *testing.T, workers int) harness.Config {
	t.Helper()
	kit.NeedRoot(t)
	return harness.Default(t).WithWorkers(workers).With("user: nobody", "group: nogroup", "worker_timeout: 3s")
}

// lies are what a process of the workers' user may say in a worker's place. Each worker but
// the first of TestOrphansLie has one.
var lies = []struct {
	name    string
	adopted bool // what is said doesn't matter, and what is given is right
	lie     func(l *loot, v *said, ch *wire.Conn) error
}{
	{"a configuration of its own, without a user, with a log of root's", false, func(l *loot, v *said, ch *wire.Conn) error {
		v.config = "workers: 1\nlisteners:\n  - name: evil\n    address: 127.0.0.1:1\n    http: {routes: [{path: /, files: {root: /}}]}\n"
		v.generation.Conf = &config.Config{Workers: 1, Threads: 1, Log: config.Log{Level: "info", Format: "text", File: evilLog(l)}}
		return v.say(ch)
	}},
	{"another essence of the right configuration, and another process", true, func(l *loot, v *said, ch *wire.Conn) error {
		v.generation.Conf = &config.Config{Workers: 1, Threads: 1, Log: config.Log{Level: "info", Format: "text", File: evilLog(l)}}
		v.worker.PID, v.worker.State, v.generation.State = os.Getpid(), "gone", "failed"
		var err error
		if v.pidfd, err = unix.PidfdOpen(os.Getpid(), 0); err != nil {
			return err
		}
		defer unix.Close(v.pidfd)
		return v.say(ch)
	}},
	{"numbers out of bounds that nobody needs", true, func(_ *loot, v *said, ch *wire.Conn) error {
		v.worker.Page, v.worker.Index, v.worker.Slots = 1<<40, -1, []int{1 << 61}
		v.end.LastID, v.end.Seq = 1<<64-1, 1<<64-1
		v.generation.ID = 1<<64 - 1
		v.generation.Deadline = time.Date(2262, 1, 1, 0, 0, 0, 0, time.UTC)
		return v.say(ch)
	}},
	{"a shard of index 2^61", false, func(_ *loot, v *said, ch *wire.Conn) error {
		v.leased.Leased[0].Index = 1 << 61
		return v.say(ch)
	}},
	{"a slot that another has", false, func(_ *loot, v *said, ch *wire.Conn) error {
		v.leased.Leased[0].Slot = 0
		return v.say(ch)
	}},
	{"another socket of the same address", false, func(l *loot, v *said, ch *wire.Conn) error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		sa, _ := unix.Getsockname(v.shardFDs[0])
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
		if err := unix.Bind(fd, sa); err != nil {
			return err
		}
		v.shardFDs[0] = fd
		return v.say(ch)
	}},
	{"other memory", false, func(l *loot, v *said, ch *wire.Conn) error {
		v.fileFDs = []int{l.Board, l.Ledger}
		return v.say(ch)
	}},
	{"the same again and again", false, func(_ *loot, v *said, ch *wire.Conn) error {
		for {
			if err := ch.Send(wire.KindCustody, v.leased, v.shardFDs...); err != nil {
				return nil // the master has had enough
			}
		}
	}},
	{"nothing", false, func(_ *loot, _ *said, ch *wire.Conn) error {
		_, _ = ch.Recv()
		return nil
	}},
}

func evilLog(l *loot) string { return filepath.Join(l.s.Dir, "evil.log") }

// TestOrphansLie is a killed master's service in which all workers but one are played by
// somebody else: what is not what the master wrote down is not taken, whoever gave it is ended,
// and the rest is adopted.
func TestOrphansLie(t *testing.T) {
	s := harness.Start(t, hostile(t, 1+len(lies)))
	all := make([]control.Worker, 1+len(lies)) // by slot
	for _, w := range kit.Workers(s.Status()) {
		all[w.Slot] = w
	}
	var loots []*loot
	for i := range lies {
		loots = append(loots, rob(t, s, 1, all[i+1]))
		harness.StopProcess(t, all[i+1].PID)
	}
	s.Kill9Master()
	results := make(chan error, len(lies))
	for i, c := range lies {
		go func() {
			ch, err := loots[i].greeted()
			if err == nil {
				defer ch.Close()
				if err = c.lie(loots[i], loots[i].truth(), ch); err == nil {
					for err == nil { // the channel's end is the master's verdict
						var m wire.Message
						m, err = ch.Recv()
						m.Close()
					}
					err = nil
				}
			}
			if err != nil {
				err = fmt.Errorf("%s: %w", c.name, err)
			}
			results <- err
		}()
	}
	m := s.RunMaster()
	st := s.WaitMaster(m.PID())
	if st.Generation != 2 {
		t.Errorf("generation %d, want 2", st.Generation)
	}
	want := []string{fmt.Sprint(all[0].PID)}
	for i, c := range lies {
		pid := all[i+1].PID
		if c.adopted {
			want = append(want, fmt.Sprint(pid))
			kit.Must(t, unix.Kill(pid, unix.SIGKILL)) // the channel's other holder doesn't hide it
			continue
		}
		if !harness.Gone(pid) {
			t.Errorf("%s: worker %d is still there", c.name, pid)
		}
	}
	for range lies {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	s.WaitAlone(m.PID())
	line := lineOf(m.Log(), "were found and are this one's now")
	for _, pid := range want {
		if !strings.Contains(line, pid) {
			t.Errorf("process %s was not adopted: %s", pid, line)
		}
	}
	if !strings.Contains(line, fmt.Sprintf("%d", len(want))) {
		t.Errorf("want %d adopted: %s", len(want), line)
	}
	if _, err := os.Stat(filepath.Join(s.Dir, "evil.log")); err == nil {
		t.Error("root has opened a log that an orphan named")
	}
	for _, pid := range s.AllWorkers() {
		if uid := harness.ProcStatus(pid, "Uid"); !strings.HasPrefix(uid, "65534") {
			t.Errorf("worker %d runs as %s", pid, uid)
		}
	}
	s.Reload()
	s.Stop()
}

// lineOf is the line of a log that has a text.
func lineOf(log, text string) string {
	for line := range strings.Lines(log) {
		if strings.Contains(line, text) {
			return line
		}
	}
	return ""
}

// TestUnrecordedListener is a process that listens at the rescue of a worker and isn't one: it
// is named and the start refused, or with --force it is ended.
func TestUnrecordedListener(t *testing.T) {
	s := harness.Start(t, hostile(t, 2))
	var robbed control.Worker
	for _, w := range kit.Workers(s.Status()) {
		robbed = w
	}
	l := rob(t, s, 1, robbed)
	stray := listenAs(t, l.Rescue, nobody)
	l.Close() // what is held of a shard is another service to a start that finds no record
	s.Kill9Master()
	before := s.AllWorkers()
	m := s.RunMaster()
	if code := m.WaitExit(); code != 1 {
		t.Errorf("status %d, want 1", code)
	}
	for _, want := range []string{fmt.Sprintf("process %d (uid 65534", stray), "--force", "in no master's record"} {
		if !strings.Contains(m.Log(), want) {
			t.Errorf("%q is not in %s", want, m.Log())
		}
	}
	if after := s.AllWorkers(); !slices.Equal(before, after) {
		t.Errorf("workers %v, before %v", after, before)
	}
	m = s.RunMaster("--force")
	s.WaitAlone(m.PID())
	if !harness.Gone(stray) {
		t.Errorf("the stray process %d is still there", stray)
	}

	// A service of which nothing is written down, as an older release leaves it.
	kit.Must(t, unix.Kill(m.PID(), unix.SIGKILL))
	s.WaitPID(m.PID())
	kit.Must(t, os.Remove(filepath.Join(s.RuntimeDir, record.File)))
	before = s.AllWorkers()
	m = s.RunMaster()
	if code := m.WaitExit(); code != 1 || !strings.Contains(m.Log(), "an older release") {
		t.Errorf("status %d, %s", code, m.Log())
	}
	if after := s.AllWorkers(); !slices.Equal(before, after) {
		t.Errorf("workers %v, before %v", after, before)
	}
	m = s.RunMaster("--force")
	s.WaitAlone(m.PID())
	s.Stop()
}

// TestStolenChannel is a duplicate of a worker's end of its control channel: it doesn't hide
// that the worker dies.
func TestStolenChannel(t *testing.T) {
	s := harness.Start(t, hostile(t, 2).With("probation: 0s"))
	var robbed control.Worker
	for _, w := range kit.Workers(s.Status()) {
		robbed = w
	}
	rob(t, s, 1, robbed)
	kit.Must(t, unix.Kill(robbed.PID, unix.SIGKILL))
	s.WaitStatus("the dead worker to be replaced", func(st *control.Status) bool {
		g := harness.Serving(st)
		return g != nil && len(g.Workers) == 2 && !slices.ContainsFunc(g.Workers, func(w control.Worker) bool {
			return w.PID == robbed.PID || w.State != "serving"
		})
	})
	s.Stop()
}

// TestTalkativeWorker is a worker that sends without end what is not its to say: others are
// answered as ever, and the log doesn't grow with it.
func TestTalkativeWorker(t *testing.T) {
	s := harness.Start(t, hostile(t, 2))
	var robbed control.Worker
	for _, w := range kit.Workers(s.Status()) {
		robbed = w
	}
	l := rob(t, s, 1, robbed)
	before := len(s.Log())
	done, stopped := make(chan struct{}), make(chan int)
	go func() {
		dup, _ := unix.FcntlInt(uintptr(l.Channel), unix.F_DUPFD_CLOEXEC, 3)
		ch, err := wire.FromFD(dup)
		n := 0
		for ; err == nil; n++ {
			select {
			case <-done:
				_ = ch.Close()
				stopped <- n
				return
			default:
			}
			_ = ch.SetWriteDeadline(time.Now().Add(10 * time.Millisecond))
			if n%2 == 0 {
				_ = ch.Send(wire.KindHello, struct{}{})
			} else {
				_ = ch.Send(wire.KindBye, wire.Bye{Reason: "\x1b[2J"}, 0)
			}
		}
		stopped <- n
	}()
	for range 50 {
		s.Status()
	}
	s.Reload() // ends it, if it is still there
	close(done)
	if n := <-stopped; n < 10 {
		t.Errorf("%d messages were sent", n)
	}
	if grown := len(s.Log()) - before; grown > 64<<10 {
		t.Errorf("the log has grown by %d bytes", grown)
	}
	s.Stop()
}

// TestSpoiltMemory is a worker that writes anything into the memory that all share: changes
// go on as ever.
func TestSpoiltMemory(t *testing.T) {
	s := harness.Start(t, hostile(t, 2))
	spoil := func(generation uint64) {
		t.Helper()
		for _, w := range kit.Workers(s.Status()) {
			l := rob(t, s, generation, w)
			for _, fd := range []int{l.Ledger, l.Board} {
				garbage := make([]byte, 1<<20)
				for i := 0; i < len(garbage); i += 8 {
					binary.NativeEndian.PutUint64(garbage[i:], uint64(i)*0x9e3779b97f4a7c15|1)
				}
				_, err := unix.Pwrite(fd, garbage, 0)
				kit.Must(t, err)
			}
			return
		}
	}
	spoil(1)
	s.Reload()
	spoil(2)
	s.Upgrade()
	spoil(3)
	s.Kill9Master()
	m := s.RunMaster()
	if st := s.WaitAlone(m.PID()); st.Generation != 4 {
		t.Errorf("generation %d, want 4", st.Generation)
	}
	s.Stop()
}
