package rig

import (
	"os"
	"os/exec"
	"path/filepath"
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
