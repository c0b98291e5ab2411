package rig

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// A server is ended although its binary has got another name.
func TestStopAfterARename(t *testing.T) {
	if err := Adopt(); err != nil {
		t.Fatal(err)
	}
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	cat, err := exec.LookPath("cat")
	if err != nil {
		t.Fatal(err)
	}
	binary, link, fifo := filepath.Join(dir, "before"), filepath.Join(dir, "exe"), filepath.Join(dir, "fifo")
	if err := CopyBinary(cat, binary); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(binary, link); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	s := &Server{Args: []string{binary, fifo}, Path: link, Quit: syscall.SIGTERM, Log: filepath.Join(dir, "log")}
	if err := s.Launch(); err != nil { // it waits for a writer
		t.Fatal(err)
	}
	after := filepath.Join(dir, "after")
	if err := os.Rename(binary, after); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(link); err != nil { // the kernel does this for /proc/self/exe
		t.Fatal(err)
	}
	if err := os.Symlink(after, link); err != nil {
		t.Fatal(err)
	}
	if n := len(s.Processes()); n != 1 {
		t.Errorf("%d processes", n)
	}
	s.Stop()
	if err := <-s.Ended(); err == nil || !strings.Contains(err.Error(), "terminated") {
		t.Error(err)
	}
}

// The limit is the server's own from its start, soft and hard.
func TestNoFile(t *testing.T) {
	if err := Adopt(); err != nil {
		t.Fatal(err)
	}
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	cat, err := exec.LookPath("cat")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Args: []string{filepath.Join(dir, "cat"), "/proc/self/limits"}, Log: filepath.Join(dir, "log"), NoFile: 99}
	if err := CopyBinary(cat, s.Args[0]); err != nil {
		t.Fatal(err)
	}
	if err := s.Launch(); err != nil {
		t.Fatal(err)
	}
	if err := <-s.Ended(); err != nil {
		t.Fatal(err)
	}
	limits, err := os.ReadFile(s.Log)
	if err != nil || !regexp.MustCompile(`Max open files +99 +99 `).Match(limits) {
		t.Errorf("%s, %v", limits, err)
	}
}

func TestNginxKeepsToTheLimit(t *testing.T) {
	n := &Nginx{Server: &Server{NoFile: 99}, conf: filepath.Join(t.TempDir(), "nginx.conf")}
	if err := n.Configure(2); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(n.conf)
	if err != nil || !strings.Contains(string(text), "worker_rlimit_nofile 99;") || !strings.Contains(string(text), "worker_connections 99;") {
		t.Errorf("%s, %v", text, err)
	}
}

func TestMachine(t *testing.T) {
	t.Setenv("PATH", "") // uname(1) is not needed
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		t.Fatal(err)
	}
	if m := Machine(); !strings.Contains(m, ", Linux "+strings.TrimSpace(string(release))+", go") {
		t.Error(m)
	}
}

func TestSwitches(t *testing.T) {
	const status = "Name:\tcat\nvoluntary_ctxt_switches:\t12\nnonvoluntary_ctxt_switches:\t30\n"
	if n := switchesOf(status); n != 42 {
		t.Errorf("%d", n)
	}
}
