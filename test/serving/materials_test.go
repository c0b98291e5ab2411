package serving

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"reuseportd/internal/control"
	"reuseportd/test/harness"
	"reuseportd/test/kit"
)

// paged is a configuration with a page from a file.
func paged(t *testing.T, path string) harness.Config {
	t.Helper()
	c := harness.Default(t).WithWorkers(2)
	c.Top = []string{"watch: true"}
	c.Listeners[0].Service = fmt.Sprintf("http: {routes: [{path: /, respond: {file: %s}}]}", path)
	return c
}

// put writes a file by a rename.
func put(t *testing.T, path, text string) {
	t.Helper()
	next := path + ".next"
	kit.Must(t, os.WriteFile(next, []byte(text), 0o644))
	kit.Must(t, os.Rename(next, path))
}

// waitPage waits until all workers answer with a text, and returns the status then.
func waitPage(t *testing.T, s *harness.Server, number uint64) *control.Status {
	t.Helper()
	return s.WaitStatus(fmt.Sprintf("materials of number %d in all workers", number), func(st *control.Status) bool {
		return len(st.Materials) == 1 && st.Materials[0].Number >= number && st.Materials[0].Behind == 0 && st.Materials[0].Error == ""
	})
}

func wantPage(t *testing.T, c *kit.Client, text string) {
	t.Helper()
	if resp, got := c.Get(); got != text || resp.Header.Get("Content-Type") != "text/html; charset=utf-8" {
		t.Errorf("got %q (%s), want %q", got, resp.Header.Get("Content-Type"), text)
	}
}

// TestMaterialRenewed: another content of a page serves soon, in the same workers and on the same connections, by a rename, a
// link that is swapped as Kubernetes does it, and in place. No request is lost, none is answered with a mixture.
func TestMaterialRenewed(t *testing.T) {
	dir := harness.Dir(t)
	path := filepath.Join(dir, "page.html")
	kit.Must(t, os.MkdirAll(filepath.Join(dir, "v1"), 0o755))
	kit.Must(t, os.WriteFile(filepath.Join(dir, "v1", "page.html"), []byte("one"), 0o644))
	kit.Must(t, os.Symlink("v1", filepath.Join(dir, "data")))
	kit.Must(t, os.Symlink("data/page.html", path))
	c := paged(t, path)
	s := harness.Start(t, c)
	kept := kit.Dial(t, c.Address("web"))
	wantPage(t, kept, "one")
	first := s.Status()

	long := strings.Repeat("two", 30_000)
	stop, ended := make(chan struct{}), make(chan struct{})
	var asked atomic.Int64
	busy := kit.Dial(t, c.Address("web"))
	go func() {
		defer close(ended)
		for {
			select {
			case <-stop:
				return
			default:
			}
			switch _, got := busy.Get(); got {
			case "one", long, "three", "four":
			default:
				t.Errorf("%d bytes: %.20q", len(got), got)
			}
			asked.Add(1)
		}
	}()
	kit.Must(t, os.MkdirAll(filepath.Join(dir, "v2"), 0o755))
	kit.Must(t, os.WriteFile(filepath.Join(dir, "v2", "page.html"), []byte(long), 0o644))
	kit.Must(t, os.Symlink("v2", filepath.Join(dir, "data.next")))
	kit.Must(t, os.Rename(filepath.Join(dir, "data.next"), filepath.Join(dir, "data")))
	waitPage(t, s, 2)
	wantPage(t, kept, long)
	put(t, filepath.Join(dir, "v2", "page.html"), "three")
	waitPage(t, s, 3)
	wantPage(t, kept, "three")
	kit.Must(t, os.WriteFile(filepath.Join(dir, "v2", "page.html"), []byte("four"), 0o644))
	st := waitPage(t, s, 4)
	wantPage(t, kept, "four")
	wantPage(t, kit.Dial(t, c.Address("web")), "four")
	close(stop)
	<-ended
	if asked.Load() == 0 {
		t.Error("nobody asked meanwhile")
	}
	if st.Generation != first.Generation || st.Groups[0].Workers[0].PID != first.Groups[0].Workers[0].PID {
		t.Errorf("generation %d and worker %d, before %d and %d", st.Generation, st.Groups[0].Workers[0].PID, first.Generation, first.Groups[0].Workers[0].PID)
	}
	s.Stop()
}

// TestMaterialBad: what there is for bad content is told, and what was there serves on: also in workers that come later.
func TestMaterialBad(t *testing.T) {
	dir := harness.Dir(t)
	path := filepath.Join(dir, "page.html")
	put(t, path, "good")
	c := paged(t, path).AsRoot()
	s := harness.Start(t, c)
	for what, spoil := range map[string]func(){
		"no such file":       func() { kit.Must(t, os.Remove(path)) },
		"not a regular file": func() { _ = os.Remove(path); kit.Must(t, unix.Mkfifo(path, 0o644)) },
		"more than 1024 KiB": func() { put(t, path, strings.Repeat("x", 1<<20+1)) },
	} {
		spoil()
		st := s.WaitStatus(what+" to be told", func(st *control.Status) bool {
			return len(st.Materials) == 1 && strings.Contains(st.Materials[0].Error, what)
		})
		if !strings.Contains(st.Materials[0].Error, path) {
			t.Errorf("the file is not named: %s", st.Materials[0].Error)
		}
		if out := s.CLI("status").Stdout; !strings.Contains(out, "BAD") || !strings.Contains(out, what) {
			t.Errorf("status says:\n%s", out)
		}
		wantPage(t, kit.Dial(t, c.Address("web")), "good")
		// A worker that is started now has what serves.
		victim := s.Workers()[0]
		kit.Must(t, unix.Kill(victim, unix.SIGKILL))
		s.WaitStatus("the worker to be replaced", func(st *control.Status) bool {
			g := harness.Serving(st)
			return g != nil && g.Workers[0].PID != victim && g.Workers[1].PID != victim && st.Materials[0].Behind == 0
		})
		for range 8 {
			wantPage(t, kit.Dial(t, c.Address("web")), "good")
		}
		// A reload refuses it, with the place in the configuration.
		r := s.Change("reload")
		if r.OK || !strings.Contains(r.Error, what) || !strings.Contains(r.Error, "config.yaml:") {
			t.Errorf("the reload says %+v", r)
		}
		_ = os.Remove(path)
		put(t, path, "good")
		waitPage(t, s, 1)
		s.WaitStatus("the configuration to be taken", func(st *control.Status) bool { return st.Config.Error == "" && st.Change == "" })
	}
	wantPage(t, kit.Dial(t, c.Address("web")), "good")
	s.Stop()
}

// TestMaterialMissing: a configuration that names what is not there is refused with its place, by check too, and taken
// when the file comes.
func TestMaterialMissing(t *testing.T) {
	dir := harness.Dir(t)
	path := filepath.Join(dir, "page.html")
	plain := harness.Default(t)
	plain.Top = []string{"watch: true"}
	s := harness.Start(t, plain)
	with := paged(t, path)
	with.Listeners[0].Address = plain.Listeners[0].Address
	with.Listeners[1].Address = plain.Listeners[1].Address
	s.WriteConfig(with)
	want := "open " + path + ": no such file or directory"
	if r := s.Change("reload"); r.OK || !strings.Contains(r.Error, want) || !strings.Contains(r.Error, "config.yaml:") || !strings.Contains(r.Error, "respond: {file:") {
		t.Errorf("the reload says %+v", r)
	}
	if out := s.CLI("check", "-c", s.ConfigPath); out.Code == 0 || !strings.Contains(out.Stderr, want) || !strings.Contains(out.Stderr, "respond: {file:") {
		t.Errorf("check says %+v", out)
	}
	if _, got := kit.Dial(t, plain.Address("web")).Get(); got != "hello\n" {
		t.Errorf("%q", got)
	}
	put(t, path, "here")
	s.WaitServing(2)
	wantPage(t, kit.Dial(t, plain.Address("web")), "here")
	s.Stop()
}

// TestMaterialAcrossMasters: an upgrade, and a master that comes after one was killed, go on with the newest content.
func TestMaterialAcrossMasters(t *testing.T) {
	dir := harness.Dir(t)
	path := filepath.Join(dir, "page.html")
	put(t, path, "one")
	c := paged(t, path)
	s := harness.Start(t, c)
	kept := kit.Dial(t, c.Address("web"))
	wantPage(t, kept, "one")
	s.Upgrade()
	wantPage(t, kept, "one")
	put(t, path, "two")
	waitPage(t, s, 2)
	wantPage(t, kept, "two")
	s.Kill9Master()
	put(t, path, "three")
	wantPage(t, kept, "two")
	m := s.RunMaster()
	s.WaitAlone(m.PID())
	wantPage(t, kept, "three")
	s.Stop()
}

// TestMaterialBehind: a worker that doesn't take a new content is shown, and harms nobody.
func TestMaterialBehind(t *testing.T) {
	dir := harness.Dir(t)
	path := filepath.Join(dir, "page.html")
	put(t, path, "one")
	c := paged(t, path).WithWorkers(1)
	s := harness.Start(t, c)
	s.Arm("worker-materials", harness.Pause)
	put(t, path, "two")
	s.WaitHit("worker-materials")
	s.WaitStatus("a worker behind", func(st *control.Status) bool { return st.Materials[0].Number == 2 && st.Materials[0].Behind == 1 })
	wantPage(t, kit.Dial(t, c.Address("web")), "one")
	s.Disarm("worker-materials")
	waitPage(t, s, 2)
	wantPage(t, kit.Dial(t, c.Address("web")), "two")
	s.Stop()
}

// TestMaterialOfOthers: a page is read as the workers' user: a link in its place leads to nothing that this user may not
// read.
func TestMaterialOfOthers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("workers run as the master does")
	}
	dir := harness.Dir(t)
	secret, path := filepath.Join(dir, "secret"), filepath.Join(dir, "page.html")
	kit.Must(t, os.WriteFile(secret, []byte("secret"), 0o600))
	put(t, path, "open")
	c := paged(t, path)
	s := harness.Start(t, c)
	kit.Must(t, os.Symlink(secret, path+".next"))
	kit.Must(t, os.Rename(path+".next", path))
	s.WaitStatus("the link to be refused", func(st *control.Status) bool {
		return strings.Contains(st.Materials[0].Error, "permission denied to the workers' user")
	})
	wantPage(t, kit.Dial(t, c.Address("web")), "open")
	s.Stop()
}
