package harness

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"reuseportd/internal/control"
)

// Master is a master that was started beside another one, or after it was
// killed, with the same runtime directory. When the test ends, the server that
// it belongs to is looked for as a whole, whoever is its master by then.
type Master struct {
	s      *Server
	pid    int
	before int // bytes in the log when it was started
}

// RunMaster starts one more master, with further flags for `run`, and returns at
// once.
func (s *Server) RunMaster(flags ...string) *Master {
	s.t.Helper()
	return s.RunMasterBy(func(*exec.Cmd) {}, flags...)
}

// RunMasterBy is RunMaster of a command that change has changed.
func (s *Server) RunMasterBy(change func(*exec.Cmd), flags ...string) *Master {
	s.t.Helper()
	log, err := os.OpenFile(s.LogPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o666)
	s.must(err)
	defer log.Close()
	m := &Master{s: s, before: len(s.Log())}
	cmd := s.command(append([]string{"run", "-c", s.ConfigPath}, flags...)...)
	cmd.Stdout, cmd.Stderr = log, log
	change(cmd)
	s.must(cmd.Start())
	m.pid = cmd.Process.Pid
	s.must(cmd.Process.Release()) // whoever waits for a PID reaps it
	s.ended, s.killed = false, false
	return m
}

// First is the master that Run started.
func (s *Server) First() *Master { return &Master{s: s, pid: s.FirstPID()} }

// PID is the master's.
func (m *Master) PID() int { return m.pid }

// Exited reports whether it has ended.
func (m *Master) Exited() bool { return Gone(m.pid) }

// WaitExit waits for its end and returns its exit status, -1 for a signal.
func (m *Master) WaitExit() int {
	m.s.t.Helper()
	return m.s.WaitPID(m.pid)
}

// Log is what the server has written since this master was started.
func (m *Master) Log() string { return m.s.Log()[m.before:] }

// Kill kills it and returns when it is gone.
func (m *Master) Kill() {
	m.s.t.Helper()
	m.s.must(syscall.Kill(m.pid, syscall.SIGKILL))
	m.WaitExit()
}

// WaitMaster waits until the master with this PID answers, and no change is in
// progress.
func (s *Server) WaitMaster(pid int) *control.Status {
	s.t.Helper()
	return s.WaitStatus(fmt.Sprintf("master %d to be in charge", pid), func(st *control.Status) bool {
		return st.PID == pid && st.Change == "" && Serving(st) != nil && st.LastChange.PID == pid
	})
}

// WaitAlone is WaitMaster until only one generation is left.
func (s *Server) WaitAlone(pid int) *control.Status {
	s.t.Helper()
	return s.WaitStatus(fmt.Sprintf("master %d to be in charge of one generation", pid), func(st *control.Status) bool {
		return st.PID == pid && st.Change == "" && Serving(st) != nil && len(st.Groups) == 1 && st.LastChange.PID == pid
	})
}

// PIDFile is the PID in the runtime directory's PID file, 0 if there is none.
func (s *Server) PIDFile() int {
	text, err := os.ReadFile(filepath.Join(s.RuntimeDir, "reuseportd.pid"))
	if err != nil {
		return 0
	}
	pid, _ := strconv.Atoi(strings.TrimSpace(string(text))) // 0 is no process
	return pid
}

// AllWorkers are the PIDs of the server's worker processes, of any generation and
// whether or not a master knows them.
func (s *Server) AllWorkers() []int {
	var all []int
	for _, pid := range s.Processes() {
		cmdline, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if strings.Contains(string(cmdline), "\x00worker\x00") {
			all = append(all, pid)
		}
	}
	return all
}

// KillWorkers kills processes and returns when they are gone.
func (s *Server) KillWorkers(pids ...int) {
	s.t.Helper()
	for _, pid := range pids {
		s.must(syscall.Kill(pid, syscall.SIGKILL))
	}
	for _, pid := range pids {
		s.Wait(fmt.Sprintf("process %d to be gone", pid), func() bool { return Gone(pid) })
	}
}

// WatchTotals samples the totals of whoever is the master until the function
// that it returns is called, which reports each that went back and returns how
// many samples there were.
func (s *Server) WatchTotals() (stop func() int) {
	done := make(chan struct{})
	var sampler sync.WaitGroup
	var samples int
	var faults []string
	sampler.Go(func() {
		var last control.Totals
		for {
			select {
			case <-done:
				return
			default:
			}
			if st, err := s.TryStatus(); err == nil {
				samples++
				if less(st.Totals, last) {
					faults = append(faults, fmt.Sprintf("totals of master %d: %s after %s", st.PID, oneLine(st.Totals), oneLine(last)))
				}
				last = st.Totals
			} else {
				time.Sleep(time.Millisecond) // there is no master to ask
			}
		}
	})
	return sync.OnceValue(func() int {
		s.t.Helper()
		close(done)
		sampler.Wait()
		for _, f := range faults {
			s.t.Error(f)
		}
		return samples
	})
}

// less reports whether any total of a is less than that of b.
func less(a, b control.Totals) bool {
	return a.Accepted < b.Accepted || a.Requests < b.Requests || a.BytesIn < b.BytesIn || a.BytesOut < b.BytesOut ||
		a.HandedOver < b.HandedOver || a.TakenOver < b.TakenOver || a.Finished < b.Finished || a.Cut < b.Cut ||
		a.AcceptPaused < b.AcceptPaused || a.AcceptNoFD < b.AcceptNoFD || a.AcceptErrors < b.AcceptErrors ||
		a.Panics < b.Panics || a.LogDropped < b.LogDropped ||
		a.ClientRefused < b.ClientRefused || a.ClientUncounted < b.ClientUncounted ||
		a.UpstreamIn < b.UpstreamIn || a.UpstreamOut < b.UpstreamOut || a.UpstreamKept < b.UpstreamKept
}
