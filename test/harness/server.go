package harness

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Within bounds every wait for a condition. Reaching it is a failure, so it
// may be long.
const Within = 20 * time.Second

// Server is one running server: its current master, its workers, and all its files.
type Server struct {
	Dir        string // everything of this server is in it
	RuntimeDir string
	ConfigPath string
	Binary     string // a copy of its own, to be replaced
	LogPath    string

	t         testing.TB
	cmd       *exec.Cmd // the first master
	marker    string    // in the environment of all its processes
	ports     map[int]bool
	failpoint string
	ended     bool // the test has ended the server itself,
	killed    bool // and not gracefully, so its files may stay
	panics    bool // the test has made a process panic

	exited chan struct{} // closed when the first master was waited for
}

// Option changes how Start starts.
type Option func(*Server, *exec.Cmd)

// Env adds a variable to the server's environment.
func Env(kv string) Option {
	return func(_ *Server, cmd *exec.Cmd) { cmd.Env = append(cmd.Env, kv) }
}

// Limit sets RLIMIT_NOFILE of the server alone.
func Limit(soft, hard int) Option {
	return func(s *Server, cmd *exec.Cmd) {
		script := s.Script(fmt.Sprintf("ulimit -Sn %d && ulimit -Hn %d && exec \"$@\"", soft, hard))
		cmd.Path, cmd.Args = script, append([]string{script, s.Binary}, cmd.Args[1:]...)
	}
}

// AllowPanic says that a panic in the log is the test's own.
func (s *Server) AllowPanic() { s.panics = true }

// NoConfig starts without a configuration file.
func NoConfig(s *Server, cmd *exec.Cmd) {
	cmd.Args = []string{s.Binary, "run", "--runtime-dir", s.RuntimeDir}
}

// Start starts a server with c and waits until it serves.
func Start(t testing.TB, c Config, options ...Option) *Server {
	t.Helper()
	s := Prepare(t, c)
	s.Run(options...)
	s.WaitServing(1)
	return s
}

// Prepare makes the server's directory and files, and starts nothing. The end
// of the test checks that nothing of the server is left.
func Prepare(t testing.TB, c Config) *Server {
	t.Helper()
	id := unique()
	dir := filepath.Join(scratch, fmt.Sprint(id))
	s := &Server{
		Dir:        dir,
		RuntimeDir: filepath.Join(dir, "run"),
		ConfigPath: filepath.Join(dir, "config.yaml"),
		Binary:     filepath.Join(dir, "reuseportd"),
		LogPath:    filepath.Join(dir, "log"),
		failpoint:  filepath.Join(dir, "fail"),
		t:          t,
		marker:     fmt.Sprintf("REUSEPORTD_TEST=%d.%d", os.Getpid(), id),
		ports:      make(map[int]bool),
	}
	for _, d := range []string{s.Dir, s.RuntimeDir, s.failpoint} {
		s.must(os.Mkdir(d, 0o755))
	}
	// Workers of another user leave their marks here, too.
	s.must(os.Chmod(s.failpoint, 0o777))
	s.WriteConfig(c)
	s.Install(Build(t))
	t.Cleanup(s.cleanup)
	return s
}

// Run starts the master and returns at once.
func (s *Server) Run(options ...Option) {
	s.t.Helper()
	log, err := os.OpenFile(s.LogPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o666)
	s.must(err)
	defer log.Close()
	s.cmd = s.command("run", "-c", s.ConfigPath)
	s.cmd.Stdout, s.cmd.Stderr = log, log
	for _, o := range options {
		o(s, s.cmd)
	}
	s.must(s.cmd.Start())
	s.ended, s.killed = false, false
	managed.add(s.cmd.Process.Pid)
	exited := make(chan struct{})
	s.exited = exited
	cmd := s.cmd
	go func() {
		_ = cmd.Wait() // its state is in cmd
		managed.remove(cmd.Process.Pid)
		close(exited)
	}()
}

// command is a command line of this server's binary.
func (s *Server) command(args ...string) *exec.Cmd {
	return s.plainCommand(append(args, "--runtime-dir", s.RuntimeDir)...)
}

func (s *Server) plainCommand(args ...string) *exec.Cmd {
	cmd := exec.Command(s.Binary, args...)
	cmd.Dir = s.Dir
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "NOTIFY_SOCKET=") && !strings.HasPrefix(kv, "RUNTIME_DIRECTORY=") {
			cmd.Env = append(cmd.Env, kv)
		}
	}
	cmd.Env = append(cmd.Env, s.marker,
		"REUSEPORTD_FAILPOINT_DIR="+s.failpoint,
		// A race is found in the log; to die of it would only hide the rest.
		// Each exit would take a second, which the detector sleeps.
		"GORACE=halt_on_error=0 exitcode=0 atexit_sleep_ms=0")
	// A terminal's signals to the test are not for the server.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

// FirstPID is the PID of the master that Run started.
func (s *Server) FirstPID() int { return s.cmd.Process.Pid }

// WaitExit waits for the end of the first master and returns its exit status,
// -1 for a signal.
func (s *Server) WaitExit() int {
	s.t.Helper()
	select {
	case <-s.exited:
	case <-time.After(2 * Within):
		s.t.Fatalf("the master %d didn't exit", s.FirstPID())
	}
	return s.cmd.ProcessState.ExitCode()
}

// Signal sends sig to the master of the moment.
func (s *Server) Signal(sig syscall.Signal) {
	s.t.Helper()
	s.must(syscall.Kill(s.PID(), sig))
}

// Stop ends the server by SIGTERM and wants it gone, with status 0.
func (s *Server) Stop() {
	s.t.Helper()
	pid := s.PID()
	s.must(syscall.Kill(pid, syscall.SIGTERM))
	if code := s.WaitPID(pid); code != 0 {
		s.t.Errorf("master %d ended with status %d after SIGTERM", pid, code)
	}
	s.ended = true
}

// Kill9Master kills the master of the moment and returns when it is gone. Its
// workers live on.
func (s *Server) Kill9Master() {
	s.t.Helper()
	pid := s.PID()
	s.must(syscall.Kill(pid, syscall.SIGKILL))
	s.WaitPID(pid)
}

// Log is what the server has written so far.
func (s *Server) Log() string {
	data, err := os.ReadFile(s.LogPath)
	if err != nil {
		return err.Error()
	}
	return string(data)
}

// WaitLog waits until the log holds text.
func (s *Server) WaitLog(text string) {
	s.t.Helper()
	s.Wait("the log to say "+text, func() bool { return strings.Contains(s.Log(), text) })
}

// Wait waits until done is true.
func (s *Server) Wait(what string, done func() bool) {
	s.t.Helper()
	Wait(s.t, what, done)
}

// Wait waits until done is true. It polls, because processes have no way to
// tell it.
func Wait(t testing.TB, what string, done func() bool) {
	t.Helper()
	end := time.Now().Add(Within)
	for !done() {
		if time.Now().After(end) {
			t.Fatalf("waited %v in vain for %s", Within, what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (s *Server) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// InGroup starts the server in a control group: file is its cgroup.procs.
func InGroup(file string) Option {
	return func(s *Server, cmd *exec.Cmd) {
		script := s.Script(fmt.Sprintf("echo 0 > '%s' && exec \"$@\"", file))
		cmd.Path, cmd.Args = script, append([]string{script, s.Binary}, cmd.Args[1:]...)
	}
}
