package harness

import (
	"fmt"
	"net"
	"os/exec"
	"strings"
	"testing"
)

func TestMain(m *testing.M) { Main(m) }

func TestPortsAreDistinct(t *testing.T) {
	seen := make(map[int]bool)
	for range 50 {
		p := Port(t)
		if seen[p] {
			t.Fatalf("port %d twice", p)
		}
		seen[p] = true
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", p))
		if err != nil {
			t.Fatal(err)
		}
		if found, err := BoundSockets(map[int]bool{p: true}); err != nil || len(found) != 1 || !found[0].Listening {
			t.Errorf("the socket on port %d is not seen: %v %v", p, found, err)
		}
		l.Close()
		if found, err := BoundSockets(map[int]bool{p: true}); err != nil || len(found) != 0 {
			t.Errorf("port %d is free and seen bound: %v %v", p, found, err)
		}
	}
}

// A process that nobody waits for any more, as an upgraded master's children
// are, comes to the test, is found, and is reaped.
func TestOrphansAreFoundAndReaped(t *testing.T) {
	s := &Server{Dir: t.TempDir(), marker: "REUSEPORTD_TEST=self", t: t}
	sh := exec.Command("/bin/sh", "-c", "sleep 60 >/dev/null 2>&1 & echo $!")
	sh.Env = []string{s.marker}
	out, err := sh.Output()
	if err != nil {
		t.Fatal(err)
	}
	found := s.Processes()
	if got := fmt.Sprintln(found[0]); len(found) != 1 || got != string(out) {
		t.Errorf("found %v, want %s", found, out)
	}
	s.KillOrphans()
	if !Gone(found[0]) || s.WaitPID(found[0]) != -1 {
		t.Errorf("orphan %d was not reaped, or not as killed", found[0])
	}
}

func TestProcessStops(t *testing.T) {
	sleep := exec.Command("sleep", "60")
	if err := sleep.Start(); err != nil {
		t.Fatal(err)
	}
	managed.add(sleep.Process.Pid)
	defer managed.remove(sleep.Process.Pid)
	StopProcess(t, sleep.Process.Pid)
	if p, err := ReadProcess(sleep.Process.Pid); err != nil || p.State != 'T' || !strings.HasPrefix(p.Name, "sleep") {
		t.Errorf("%+v %v, want a stopped sleep", p, err)
	}
	ContinueProcess(t, sleep.Process.Pid)
	if err := sleep.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = sleep.Wait() // killed
}
