package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"reuseportd/internal/control"
	"reuseportd/internal/rundir/rundirtest"
)

// answers is a master that gives one answer to each command.
type answers map[string]control.Response

func (a answers) Handle(_ context.Context, req control.Request) control.Response {
	resp, ok := a[req.Command]
	if !ok {
		return control.Response{Error: "not expected: " + req.Command}
	}
	return resp
}

// asked tells once that the command has been asked for.
type asked struct {
	answers
	command string
	once    chan struct{} // has room for one
}

func (a asked) Handle(ctx context.Context, req control.Request) control.Response {
	if req.Command == a.command {
		a.once <- struct{}{}
	}
	return a.answers.Handle(ctx, req)
}

// master serves the answers until the test, or stop, ends it.
func master(t *testing.T, a control.Handler) (dir string, stop func()) {
	t.Helper()
	dir = t.TempDir()
	l, err := control.Listen(rundirtest.Open(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan struct{})
	go func() {
		defer close(served)
		if err := control.Serve(ctx, l, a); err != nil {
			t.Error(err)
		}
	}()
	stop = func() { cancel(); <-served }
	t.Cleanup(stop)
	return dir, stop
}

func TestExitStatus(t *testing.T) {
	done := &control.Receipt{Action: "reload", OK: true, Generation: 8, Previous: 7, ConfigSHA256: "0123456789"}
	failed := &control.Receipt{Action: "upgrade", Error: "it dislikes\nthe configuration", Generation: 7, Previous: 7}
	dir, _ := master(t, answers{
		"status":  {Status: &control.Status{Version: "1.2", PID: 99}},
		"reload":  {Receipt: done},
		"upgrade": {Receipt: failed},
		"stop":    {Receipt: &control.Receipt{Action: "stop", Error: "not now"}},
	})
	none := t.TempDir()
	for _, test := range []struct {
		args        string
		want        int
		out, errOut string
	}{
		{"version", exitOK, "reuseportd ", ""},
		{"--help", exitOK, "Exit status", ""},
		{"status --runtime-dir " + dir, exitOK, "reuseportd 1.2, PID 99", ""},
		{"status --json --runtime-dir " + dir, exitOK, `"version": "1.2"`, ""},
		{"reload --runtime-dir " + dir, exitOK, "generation 8 serves", ""},
		{"reload --json --runtime-dir " + dir, exitOK, `"generation": 8`, ""},
		{"upgrade --runtime-dir " + dir, exitFailed, "", "it dislikes\nthe configuration\n"},
		{"upgrade --json --runtime-dir " + dir, exitFailed, `it dislikes\nthe configuration`, ""},
		{"stop --runtime-dir " + dir, exitFailed, "", "not now"},
		{"stop --json --runtime-dir " + dir, exitFailed, "not now", ""},
		{"sing", exitUsage, "", "unexpected argument sing"},
		{"reload now", exitUsage, "", "unexpected argument now"},
		{"run --bogus", exitUsage, "", "unknown flag --bogus"},
		{"run --config=", exitUsage, "", "the path is empty"},
		{"stop --runtime-dir=", exitUsage, "", "the path is empty"},
		{"check", exitUsage, "", "missing flags"},
		{"check -c " + none + "/none.yaml", exitFailed, "", "no such file"},
		{"bench accept --only herd", exitFailed, "", `unknown strategy "herd"`},
		{"bench accept --duration 1ms", exitFailed, "", "write a time from"},
		{"bench accept --plot " + none + "/none/x.svg", exitFailed, "", "no such file"},
		{"bench accept --help", exitOK, "How it is measured", ""},
		{"status --runtime-dir " + none, exitNoMaster, "", "no reuseportd runs"},
		{"reload --runtime-dir " + none, exitNoMaster, "", "no reuseportd runs"},
		{"upgrade --json --runtime-dir " + none, exitNoMaster, "", "no reuseportd runs"},
		{"stop --runtime-dir " + none, exitNoMaster, "", "no reuseportd runs"},
	} {
		var out, errOut bytes.Buffer
		got := execute(strings.Fields(test.args), &out, &errOut)
		if got != test.want {
			t.Errorf("%s: exit status %d, want %d", test.args, got, test.want)
		}
		for _, text := range []struct{ name, got, want string }{{"stdout", out.String(), test.out}, {"stderr", errOut.String(), test.errOut}} {
			if !strings.Contains(text.got, text.want) || (text.want == "") != (text.got == "") {
				t.Errorf("%s: %s is %q, want %q", test.args, text.name, text.got, text.want)
			}
		}
	}
}

// stop returns when the socket is dead and the process has ended.
func TestStopWaitsForTheEnd(t *testing.T) {
	sleep := exec.Command("sleep", "60")
	if err := sleep.Start(); err != nil {
		t.Fatal(err)
	}
	pid := sleep.Process.Pid
	a := asked{command: "stop", once: make(chan struct{}, 1), answers: answers{
		"status": {Status: &control.Status{PID: pid}},
		"stop":   {Receipt: &control.Receipt{Action: "stop", OK: true, PID: pid, Finished: 1}},
	}}
	dir, stop := master(t, a)
	var killed atomic.Bool
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		<-a.once
		stop()
		time.Sleep(20 * time.Millisecond) // in which a stop that doesn't wait returns
		killed.Store(true)
		_ = sleep.Process.Kill()
		_ = sleep.Wait()
	}()
	var out, errOut bytes.Buffer
	if got := execute([]string{"stop", "--runtime-dir", dir}, &out, &errOut); got != exitOK {
		t.Errorf("exit status %d: %s", got, errOut.String())
	}
	if !killed.Load() {
		t.Error("stop did not wait for the process")
	}
	if out.String() != "stopped after 0s: 1 open connection finished, 0 cut\n" {
		t.Errorf("stdout: %q", out.String())
	}
	<-ended
}

func TestRuntimeDir(t *testing.T) {
	for env, want := range map[string]string{"/run/a": "/run/a", "/run/a:/run/b": "/run/a"} {
		t.Setenv("RUNTIME_DIRECTORY", env)
		if got, err := runtimeDir(); err != nil || got != want {
			t.Errorf("RUNTIME_DIRECTORY=%s: %q, %v", env, got, err)
		}
	}
}

func TestBinaryPath(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(dir, "current")
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(exe, link); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	t.Setenv("PATH", dir)
	for given, want := range map[string]string{
		link:        link,
		"./current": link,
		"current":   link,
		"-nonsense": exe,
		"./none":    exe,
	} {
		if got, err := binaryPath(given); err != nil || got != want {
			t.Errorf("started as %s: %s, %v, want %s", given, got, err, want)
		}
	}
}

// The next master is started with absolute paths, whatever was typed, and isn't
// a parent once more.
func TestSettle(t *testing.T) {
	old := os.Args
	defer func() { os.Args = old }()
	dir := t.TempDir()
	t.Chdir(dir)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	os.Args = []string{exe, "--runtime-dir", "rt", "-cr.yaml", "--init", "--pprof"}
	c := cli{RuntimeDir: "rt"}
	r := runCmd{Config: "r.yaml", Init: true, Pprof: true}
	if err := r.settle(&c); err != nil {
		t.Fatal(err)
	}
	want := []string{exe, "run", "--runtime-dir=" + dir + "/rt", "--config=" + dir + "/r.yaml", "--pprof"}
	if !slices.Equal(os.Args, want) || c.RuntimeDir != filePath(dir+"/rt") || r.Config != filePath(dir+"/r.yaml") {
		t.Errorf("arguments %q, runtime directory %s, configuration %s", os.Args, c.RuntimeDir, r.Config)
	}
}

func TestShellWord(t *testing.T) {
	for word, want := range map[string]string{
		"/run/r-1.x": "/run/r-1.x",
		"":           "''",
		"a b":        "'a b'",
		"it's":       `'it'\''s'`,
		"$HOME":      "'$HOME'",
		"~":          "'~'",
	} {
		if got := shellWord(word); got != want {
			t.Errorf("%q becomes %s, want %s", word, got, want)
		}
	}
}
