package upstream

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/config"
	"reuseportd/internal/memfd"
)

// process is a worker that is killed or stopped where a test wants it.
func process(what string) {
	b, err := OpenBoard(3)
	if err != nil {
		panic(err)
	}
	switch what {
	case "uses": // dies with two sessions
		s, err := New([]config.Upstream{app(config.BalanceRoundRobin, 1)}, b, nil)
		if err != nil {
			panic(err)
		}
		c, err := s.Chooser("app", 7)
		if err != nil {
			panic(err)
		}
		c.Pick(1, 0, nil)
		c.Pick(1, 0, nil)
	case "claims": // dies in the middle of a claim
		if !b.lock() {
			panic("no lock")
		}
		i := b.free(monotonic())
		store(b.entries[i].upstream[:], "half")
		b.entries[i].kind.Store(ofServer)
	case "stops": // in the middle of one
		if !b.lock() {
			panic("no lock")
		}
		fmt.Println("stopped")
		_ = unix.Kill(os.Getpid(), unix.SIGSTOP)
		time.Sleep(time.Hour) // this thread may be the last to hear of it
	}
	_ = unix.Kill(os.Getpid(), unix.SIGKILL)
	select {}
}

func command(t *testing.T, b *Board, what string) *exec.Cmd {
	t.Helper()
	fd, err := unix.FcntlInt(uintptr(b.FD()), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(fd), "board")
	t.Cleanup(func() { _ = file.Close() })
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "UPSTREAM_TEST_PROCESS="+what)
	cmd.ExtraFiles = []*os.File{file}
	cmd.Stderr = os.Stderr
	return cmd
}

func TestKilledWorker(t *testing.T) {
	b := newBoard(t)
	for _, what := range []string{"claims", "uses", "claims"} {
		if err := command(t, b, what).Run(); err == nil || !strings.Contains(err.Error(), "killed") {
			t.Fatalf("%s: %v", what, err)
		}
	}
	u := app(config.BalanceRoundRobin, 1, 1)
	u.Servers[0].MaxConnections = 2
	c := newChooserOf(t, newSet(t, b, nil, u), 8)
	if got := picks(c, 1, 2); got != "22" {
		t.Errorf("%s: until the master knows of it, what the dead have counts", got)
	}
	if got := b.Snapshot("app"); len(got) != 2 || got[0].InUse != 2 || got[0].Sessions != 2 {
		t.Errorf("%+v", got)
	}
	b.ClearRows(0, 8)
	if got := b.Snapshot("app")[0].InUse; got != 0 {
		t.Errorf("%d in use", got)
	}
	if got := len(b.Snapshot("half")); got != 0 {
		t.Errorf("%d servers that nobody has claimed", got)
	}
	mine, _ := c.Pick(2, 0, nil)
	b.ClearRows(0, 8)
	b.ClearRows(9, maxRows-9)
	if got := mine.sum(); got != 1 {
		t.Errorf("%d in use, want those of the row that was not cleared", got)
	}
}

// While the worker that was about to take an entry is stopped, others go on with memory
// of their own; they don't wait for it one by one.
func TestStoppedWorker(t *testing.T) {
	b := newBoard(t)
	cmd := command(t, b, "stops")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if i := b.claim(&key{ofServer, "app", "after"}, 1); i < 0 {
			t.Error("the lock of a killed worker holds")
		}
	}()
	if _, err := out.Read(make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	told := newEvents()
	begun := time.Now()
	s := newSet(t, b, told.tell, app(config.BalanceRoundRobin, 1, 1, 1))
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
	if len(told.all) != 1 || !strings.Contains(told.all[0], "no room") {
		t.Errorf("told %q", told.all)
	}
	c := newChooserOf(t, s, 0)
	if got := picks(c, 1, 3); got != "123" {
		t.Error(got)
	}
	b.patience = time.Time{}
}

func TestFullBoard(t *testing.T) {
	b := newBoard(t)
	now := monotonic()
	for i := range maxEntries {
		if got := b.claim(&key{ofServer, "many", fmt.Sprint(i)}, now); got != i {
			t.Fatalf("entry %d is %d", i, got)
		}
	}
	told := newEvents()
	u := app(config.BalanceLeast, 1, 1)
	u.Servers[0].MaxConnections = 1
	s := newSet(t, b, told.tell, u)
	told.want(t, "upstream app: there is no room for it in the workers' shared memory: "+
		"its state, its counters and max_connections are each worker's own (and those of others as well)")
	one, other := newChooserOf(t, s, 0), newChooserOf(t, s, 1)
	if got, _ := pick(one, 1, 0, nil); got != "1" {
		t.Error(got)
	}
	for range 5 {
		if got, _ := pick(other, 1, 0, nil); got != "2" {
			t.Error(got)
		}
	}

	// Those that nobody had for ten minutes make room, those in use don't.
	row := b.useRow(3)
	row[0].Store(1)
	b.entries[1].touched.Store(now + stale)
	k := key{ofServer, "app", "10.0.0.1:80"}
	if i := b.claim(&k, now+stale-1); i >= 0 {
		t.Errorf("entry %d was taken away", i)
	}
	if i := b.claim(&k, now+stale); i != 2 {
		t.Errorf("entry %d, want 2", i)
	}
	if i := b.claim(&key{ofServer, "many", "0"}, now+stale); i != 0 {
		t.Errorf("entry %d, want 0", i)
	}
	if got := b.Snapshot("app"); len(got) != 1 || got[0].Sessions != 0 || got[0].Address != "10.0.0.1:80" {
		t.Errorf("%+v", got)
	}
}

// A worker that was stopped for so long that its entries are others' now leaves them alone,
// and gets new ones.
func TestLostEntry(t *testing.T) {
	b := newBoard(t)
	s := newSet(t, b, nil, app(config.BalanceRoundRobin, 1, 1))
	c := newChooserOf(t, s, 0)
	lost := c.Find("10.0.0.1:80")
	if !b.sweep(lost.index, monotonic()+stale) {
		t.Fatal("not stale")
	}
	if i := b.claim(&key{ofServer, "another", "10.0.0.9:80"}, monotonic()); i != lost.index {
		t.Fatalf("entry %d", i)
	}
	if got := picks(c, 1, 3); got != "222" {
		t.Errorf("%s", got)
	}
	if lost.take(c.row) || b.inUse(lost.index) != 0 {
		t.Error("a session is counted at another server")
	}
	s.pools["app"].keep(monotonic())
	if got := picks(c, 1, 6); strings.Count(got, "1") != 3 {
		t.Errorf("%s", got)
	}
	if found := c.Find("10.0.0.1:80"); found == lost || found.index == lost.index {
		t.Error("the server has the entry of another")
	}
	if got := b.Snapshot("another"); len(got) != 1 || got[0].Sessions != 0 {
		t.Errorf("%+v", got)
	}
}

func TestOpenBoardRefuses(t *testing.T) {
	sized := func(size int64) int {
		fd, err := memfd.Sized("test", size)
		if err != nil {
			t.Fatal(err)
		}
		return fd
	}
	unsealed, err := memfd.Create("test")
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Ftruncate(unsealed, boardSize); err != nil {
		t.Fatal(err)
	}
	for name, fd := range map[string]int{"too small": sized(4096), "no header": sized(boardSize), "not sealed": unsealed} {
		if _, err := OpenBoard(fd); err == nil {
			t.Errorf("%s: opened", name)
		}
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil {
			t.Errorf("%s: the descriptor is still open", name)
		}
	}
	b := newBoard(t)
	b.header++
	fd, _ := unix.FcntlInt(uintptr(b.FD()), unix.F_DUPFD_CLOEXEC, 3)
	if _, err := OpenBoard(fd); err == nil || !strings.Contains(err.Error(), "this release knows") {
		t.Errorf("another version: %v", err)
	}
	if err := b.Close(); err != nil || b.Close() != nil {
		t.Error(err)
	}
}

// What a worker has written into the memory harms no reader.
func TestNonsenseOnTheBoard(t *testing.T) {
	b := newBoard(t)
	u := app(config.BalanceRoundRobin, 1)
	s := newSet(t, b, nil, u)
	c := newChooserOf(t, s, 0)
	b.used.Store(1 << 40)
	for i := range b.entries {
		w := b.entries[i].words()
		for j := range w {
			w[j].Store(mix(uint64(i*len(w) + j)))
		}
		store(b.entries[i].upstream[:], "app")
		b.entries[i].kind.Store(uint64(i % 5))
	}
	b.Snapshot("app")
	b.Upstream("app")
	b.lately("app", "x:80", 1)
	n := &name{upstream: "app", state: &b.entries[1], id: b.entries[1].id.Load()}
	n.state.answer.Store(failedAnswer)
	n.state.last().halves[0].whole.Store(1)
	n.state.last().halves[1].whole.Store(1)
	n.state.last().halves[0].asked.Store(1)
	n.state.last().halves[1].asked.Store(1)
	b.last(n)
	picks(c, 1, 3)
	s.pools["app"].keep(1)
	b.ClearRows(0, maxRows)
}
