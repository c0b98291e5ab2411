package serving

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"reuseportd/internal/control"
	"reuseportd/test/harness"
	"reuseportd/test/kit"
)

// hang has a directory's file system answer nothing from here on: a FUSE file system that no process
// serves is mounted there. The function that it returns brings back what was there before.
func hang(t *testing.T, dir string) (recover func()) {
	t.Helper()
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skipf("a file system that hangs needs FUSE: %v", err)
	}
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=%d,group_id=%d,allow_other", fd, os.Geteuid(), os.Getegid())
	if err := unix.Mount("hung", dir, "fuse", 0, options); err != nil {
		unix.Close(fd)
		t.Skipf("a file system that hangs needs the right to mount one: %v", err)
	}
	open := true
	recover = func() {
		if open {
			open = false
			unix.Close(fd) // who waits gets an error
			kit.Must(t, unix.Unmount(dir, unix.MNT_DETACH))
		}
	}
	t.Cleanup(recover)
	return recover
}

// hangable starts a server whose configuration, log or roots are in a directory of their own, which it
// returns.
func hangable(t *testing.T, name string) (dir string) {
	t.Helper()
	dir = filepath.Join(harness.Dir(t), name)
	kit.Must(t, os.Mkdir(dir, 0o755))
	return dir
}

// killFirst kills a worker and waits for another one in its place.
func killFirst(t *testing.T, s *harness.Server) {
	t.Helper()
	killed := s.Workers()[0]
	kit.Must(t, syscall.Kill(killed, syscall.SIGKILL))
	s.WaitStatus("the worker to be replaced", func(st *control.Status) bool {
		g := harness.Serving(st)
		return g != nil && g.Workers[0].PID != killed
	})
}

// TestConfigurationHung: a reload whose file can't be read says so, as does the next one; everything else goes on, and
// a reload succeeds when the file system is back.
func TestConfigurationHung(t *testing.T) {
	dir := hangable(t, "etc")
	c := harness.Default(t)
	c.Top = []string{"start_timeout: 1s", "watch: true"}
	s := harness.Prepare(t, c)
	s.ConfigPath = filepath.Join(dir, "config.yaml")
	s.WriteConfig(c)
	s.Run()
	s.WaitServing(1)
	back := hang(t, dir)
	for range 3 {
		r := s.Change("reload")
		if r.OK || !strings.Contains(r.Error, "still reading "+s.ConfigPath) || !strings.Contains(r.Error, "the file system doesn't answer") {
			t.Errorf("receipt %+v", r)
		}
	}
	s.WaitStatus("the status to say what is waited for", func(st *control.Status) bool {
		return len(st.Waiting) > 0 && strings.Contains(st.Waiting[0], "reading "+s.ConfigPath)
	})
	killFirst(t, s)
	if body := fetch(t, c.Address("web")); body != "hello\n" {
		t.Errorf("answer %q", body)
	}
	s.WaitLog("everything else goes on")
	if r := s.Change("upgrade"); r.OK || !strings.Contains(r.Error, "the file system doesn't answer") {
		t.Errorf("receipt %+v", r)
	}
	back()
	s.WaitStatus("nothing to be waited for", func(st *control.Status) bool { return len(st.Waiting) == 0 })
	s.Reload()
	s.Upgrade()
	hang(t, dir)
	s.Stop()
}

// TestLogFileHung: the log's file system hangs, and so do rotation and reload, but nothing else.
func TestLogFileHung(t *testing.T) {
	dir := hangable(t, "log")
	c := harness.Default(t).AsRoot().With("start_timeout: 1s", fmt.Sprintf("log: {file: %s}", filepath.Join(dir, "error.log")))
	s := harness.Start(t, c)
	back := hang(t, dir)
	s.Signal(syscall.SIGUSR1)
	if r := s.Change("reload"); r.OK || !strings.Contains(r.Error, "the file system doesn't answer") {
		t.Errorf("receipt %+v", r)
	}
	killFirst(t, s)
	s.WaitStatus("the status to say what is waited for", func(st *control.Status) bool {
		return slices.ContainsFunc(st.Waiting, func(what string) bool { return strings.Contains(what, "opening the log "+dir) })
	})
	back()
	s.WaitStatus("nothing to be waited for", func(st *control.Status) bool { return len(st.Waiting) == 0 })
	s.Reload()
	s.Stop()
}

// TestRootHung: a killed worker can't return while a root's file system hangs, but the master goes on, as does
// the other worker; it returns then.
func TestRootHung(t *testing.T) {
	dir := hangable(t, "srv")
	kit.Must(t, os.Mkdir(filepath.Join(dir, "www"), 0o755))
	c := harness.Default(t).AsRoot().With("start_timeout: 1s")
	c.Listeners = append(c.Listeners, harness.Listener{
		Name: "files", Address: harness.Local(t),
		Service: fmt.Sprintf("http: {routes: [{path: /, files: {root: %s/www}}]}", dir),
	})
	s := harness.Start(t, c)
	back := hang(t, dir)
	killed := s.Workers()[0]
	kit.Must(t, syscall.Kill(killed, syscall.SIGKILL))
	s.WaitStatus("the master to say why the worker doesn't return", func(st *control.Status) bool {
		w := st.Groups[0].Workers[0]
		return w.PID != killed && strings.Contains(w.LastError, "doesn't answer")
	})
	if body := fetch(t, c.Address("web")); body != "hello\n" {
		t.Errorf("answer %q", body)
	}
	back()
	s.WaitServing(1)
	s.Stop()
}

// TestNextMasterLog: all lines of a next master are in the configured log.
func TestNextMasterLog(t *testing.T) {
	path := filepath.Join(harness.Dir(t), "error.log")
	c := harness.Default(t).AsRoot().With(fmt.Sprintf("log: {file: %s}", path))
	s := harness.Start(t, c)
	before := s.Log()
	s.Upgrade()
	s.Stop()
	if after := strings.TrimPrefix(s.Log(), before); after != "" {
		t.Errorf("these lines are not in the log, but in standard error:\n%s", after)
	}
	text, err := os.ReadFile(path)
	kit.Must(t, err)
	if !strings.Contains(string(text), "stopped: nothing is left open") {
		t.Errorf("log:\n%s", text)
	}
}

// fetch gets / on a connection of its own.
func fetch(t *testing.T, address string) string {
	t.Helper()
	conn := kit.Dial(t, address)
	defer conn.Close()
	_, body := conn.Get()
	return body
}

// TestStartHung: a master that waits for its first configuration can be told to end.
func TestStartHung(t *testing.T) {
	dir := hangable(t, "etc")
	s := harness.Prepare(t, harness.Default(t))
	s.ConfigPath = filepath.Join(dir, "config.yaml")
	hang(t, dir)
	s.Run()
	s.Wait("the master to wait for the file system", func() bool {
		waits, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/wchan", s.FirstPID()))
		return slices.ContainsFunc(waits, func(path string) bool {
			text, _ := os.ReadFile(path)
			return strings.Contains(string(text), "fuse")
		})
	})
	kit.Must(t, syscall.Kill(s.FirstPID(), syscall.SIGTERM))
	if code := s.WaitExit(); code != 1 || !strings.Contains(s.Log(), "asked to end before it served") {
		t.Errorf("exit status %d; it says:\n%s", code, s.Log())
	}
}
