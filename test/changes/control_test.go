package changes

import (
	"fmt"
	"net"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"

	"reuseportd/internal/control"
	"reuseportd/test/harness"
	"reuseportd/test/kit"
)

// Clients that wait for ever, are stopped or were killed never keep out those that want to
// know what goes on, or to end it.
func TestControlSocketIsNeverBlocked(t *testing.T) {
	s := harness.Start(t, harness.Default(t))
	for i := range 70 {
		conn, err := net.Dial("unix", control.SocketPath(s.RuntimeDir))
		kit.Must(t, err)
		if i%2 == 0 {
			defer conn.Close() // it waits for the end of what serves
		}
		_, err = fmt.Fprintln(conn, `{"command":"drained","generation":1}`)
		kit.Must(t, err)
		if i%2 == 1 {
			kit.Must(t, conn.Close())
		}
		if i%10 == 0 { // the queue is no longer than the places are many
			s.Status()
		}
	}
	var stopped []*exec.Cmd
	for range 3 {
		cmd := exec.Command(s.Binary, "status", "--runtime-dir", s.RuntimeDir)
		kit.Must(t, cmd.Start())
		kit.Must(t, cmd.Process.Signal(syscall.SIGSTOP))
		stopped = append(stopped, cmd)
	}
	for range 3 {
		if r := s.CLI("status"); r.Code != 0 {
			t.Fatalf("status: %d, %s", r.Code, r.Stderr)
		}
	}
	if r := s.CLI("stop"); r.Code != 0 {
		t.Errorf("stop: %d, %s", r.Code, r.Stderr)
	}
	for _, cmd := range stopped {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
}

// Nobody waits for ever for a master that is stopped, and what keeps it is said.
func TestStoppedMaster(t *testing.T) {
	s := harness.Start(t, harness.Default(t))
	pid := s.PID()
	kit.StopMaster(s, pid)
	var all sync.WaitGroup
	for args, want := range map[string]string{
		"status":                 "status: gave up waiting for the master's answer (",
		"status --timeout 200ms": "status: gave up waiting for the master's answer (--timeout 200ms): ",
		"reload":                 "reload: gave up waiting for the master's answer (stopped for 5s): ",
		"reload --timeout 300ms": "reload: gave up waiting for the master's answer (--timeout 300ms): ",
	} {
		all.Go(func() {
			r := s.CLI(strings.Fields(args)...)
			if state := fmt.Sprintf("its process %d is stopped (state T; `kill -CONT %d` lets it go on)", pid, pid); r.Code != 1 ||
				!strings.Contains(r.Stderr, want) || !strings.Contains(r.Stderr, state) {
				t.Errorf("%s: status %d, %s", args, r.Code, r.Stderr)
			}
		})
	}
	all.Wait()
	kit.Must(t, syscall.Kill(pid, syscall.SIGCONT))
	s.Reload()
	s.Stop()
}

// After an upgrade it is the next master's process that is named.
func TestPeerIsTheMasterOfTheMoment(t *testing.T) {
	s := harness.Start(t, harness.Default(t))
	s.Upgrade()
	c, err := control.Dial(s.RuntimeDir, false)
	kit.Must(t, err)
	defer c.Close()
	if pid := s.PID(); c.PID() != pid || pid == s.FirstPID() {
		t.Errorf("the kernel names %d, the master is %d", c.PID(), pid)
	}
	s.Stop()
}
