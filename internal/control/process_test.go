package control

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A stopped process is known as that, with its number and what to do.
func TestStoppedProcess(t *testing.T) {
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	pid := cmd.Process.Pid
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	var status unix.WaitStatus
	if _, err := unix.Wait4(pid, &status, unix.WUNTRACED, nil); err != nil || !status.Stopped() {
		t.Fatalf("%v, %v", status, err)
	}
	p, err := LookAt(pid)
	if err != nil || !p.Held() || !strings.Contains(p.String(), "is stopped (state T; `kill -CONT ") {
		t.Errorf("%v, %v", p, err)
	}
	if since := time.Since(p.Started); since < -time.Second || since > time.Minute {
		t.Errorf("started %s ago", since)
	}
	if p, err := LookAt(os.Getpid()); err != nil || p.Held() {
		t.Errorf("this process: %v, %v", p, err)
	}
	for _, none := range []int{0, -1, 1 << 30} {
		if _, err := LookAt(none); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("process %d: %v", none, err)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add("7 (a) b) c) T 1 7 7 0 -1 4194560 2 0 0 0 0 0 0 0 20 0 1 0 1234 0 0")
	f.Add(") S")
	f.Add(") \x01 1 7 7 0 -1 4194560 2 0 0 0 0 0 0 0 20 0 1 0 1234 0 0")
	f.Fuzz(func(t *testing.T, text string) {
		if state, _, err := parseStat(text); err == nil && (state|0x20 < 'a' || state|0x20 > 'z') {
			t.Errorf("state %q", state)
		}
	})
}
