package serving

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"reuseportd/test/harness"
	"reuseportd/test/kit"
)

// pprof is the option of a server whose workers give profiles.
func pprof(_ *harness.Server, cmd *exec.Cmd) { cmd.Args = append(cmd.Args, "--pprof") }

// pprofSockets are the names of the sockets for profiles.
func pprofSockets(t *testing.T, s *harness.Server) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(s.RuntimeDir, "pprof-*"))
	kit.Must(t, err)
	names := []string{}
	for _, path := range paths {
		names = append(names, filepath.Base(path))
	}
	return names
}

// waitPprofSockets waits until there are these sockets and no others.
func waitPprofSockets(t *testing.T, s *harness.Server, want ...string) {
	t.Helper()
	s.Wait("the sockets for profiles", func() bool { return slices.Equal(pprofSockets(t, s), want) })
}

// askPprof asks a worker for a page or a profile.
func askPprof(s *harness.Server, socket, path string) (int, []byte, error) {
	d := net.Dialer{Timeout: harness.Within}
	tr := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return d.DialContext(ctx, "unix", filepath.Join(s.RuntimeDir, socket))
	}}
	c := http.Client{Transport: tr, Timeout: 2 * harness.Within}
	resp, err := c.Get("http://worker/debug/pprof/" + path)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return resp.StatusCode, data, err
}

// wantProfile wants a worker to give a profile that names what it is of.
func wantProfile(t *testing.T, s *harness.Server, socket, path, of string) {
	t.Helper()
	code, data, err := askPprof(s, socket, path)
	if err != nil || code != http.StatusOK {
		t.Fatalf("%s of %s: %d %v %.200s", path, socket, code, err, data)
	}
	z, err := gzip.NewReader(bytes.NewReader(data))
	kit.Must(t, err)
	text, err := io.ReadAll(z)
	kit.Must(t, err)
	if !bytes.Contains(text, []byte(of)) {
		t.Errorf("%s of %s: %d bytes, nothing of %q", path, socket, len(text), of)
	}
}

// Each worker has a socket of its own for as long as it lives, whichever master is there.
func TestPprof(t *testing.T) {
	s := harness.Start(t, harness.Default(t), pprof)
	waitPprofSockets(t, s, "pprof-1-0.sock", "pprof-1-1.sock")
	info, err := os.Stat(filepath.Join(s.RuntimeDir, "pprof-1-0.sock"))
	kit.Must(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	wantProfile(t, s, "pprof-1-0.sock", "profile?seconds=1", "nanoseconds")
	for _, name := range []string{"heap", "allocs", "goroutine", "mutex", "block"} {
		wantProfile(t, s, "pprof-1-1.sock", name, "count")
	}
	if code, data, err := askPprof(s, "pprof-1-1.sock", "trace?seconds=0.1"); code != http.StatusOK || err != nil || len(data) == 0 {
		t.Errorf("trace: %d %v, %d bytes", code, err, len(data))
	}

	s.Reload()
	waitPprofSockets(t, s, "pprof-2-0.sock", "pprof-2-1.sock")
	wantProfile(t, s, "pprof-2-0.sock", "heap", "inuse_space")
	s.Upgrade()
	waitPprofSockets(t, s, "pprof-3-0.sock", "pprof-3-1.sock")
	wantProfile(t, s, "pprof-3-1.sock", "heap", "inuse_space")
	s.Stop()
	if names := pprofSockets(t, s); len(names) > 0 {
		t.Errorf("left behind: %v", names)
	}
}

// What a killed master has left is used on, removed with its worker, and also if that died
// before the next master came, which has its own mind about new workers.
func TestPprofOfOrphans(t *testing.T) {
	s := harness.Start(t, harness.Default(t), pprof)
	pids := s.Workers()
	s.Kill9Master()
	wantProfile(t, s, "pprof-1-0.sock", "heap", "inuse_space")
	wantProfile(t, s, "pprof-1-1.sock", "heap", "inuse_space")
	kit.Must(t, syscall.Kill(pids[0], syscall.SIGKILL))
	s.WaitPID(pids[0])
	kit.Adopts(t, s)
	waitPprofSockets(t, s)
	s.Stop()
}

// Nobody gets a profile who didn't ask for it when the service was started.
func TestNoPprof(t *testing.T) {
	s := harness.Start(t, harness.Default(t))
	if names := pprofSockets(t, s); len(names) > 0 {
		t.Errorf("there are %v", names)
	}
}

// A worker goes when it has drained, whoever waits for a profile of it.
func TestPprofDelaysNothing(t *testing.T) {
	s := harness.Start(t, harness.Default(t).WithWorkers(1), pprof)
	ended := make(chan error, 1)
	go func() {
		_, _, err := askPprof(s, "pprof-1-0.sock", "profile?seconds=30")
		ended <- err
	}()
	s.Wait("the profile to begin", func() bool {
		_, stacks, err := askPprof(s, "pprof-1-0.sock", "goroutine?debug=1")
		return err == nil && bytes.Contains(stacks, []byte("net/http/pprof.Profile"))
	})
	began := time.Now()
	s.Reload()
	waitPprofSockets(t, s, "pprof-2-0.sock")
	if took := time.Since(began); took > harness.Within/2 {
		t.Errorf("the old worker took %v", took)
	}
	if err := <-ended; err == nil {
		t.Error("the profile came to its end")
	}
}
