package harness

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// noteAddresses remembers whose sockets the end of the test looks for.
func (s *Server) noteAddresses(c Config) {
	for _, l := range c.Listeners {
		if a, err := netip.ParseAddrPort(l.Address); err == nil {
			s.ports[int(a.Port())] = true
		}
	}
}

// cleanup ends the server and reports everything that is left of it.
func (s *Server) cleanup() {
	if s.t.Failed() {
		s.explain()
	}
	if s.cmd == nil {
		_ = os.RemoveAll(s.Dir)
		return
	}
	// Nobody may be held by a failpoint that the test forgot.
	if entries, err := os.ReadDir(s.failpoint); err == nil {
		for _, e := range entries {
			_ = os.Remove(filepath.Join(s.failpoint, e.Name()))
		}
	}
	if !s.ended && len(s.Processes()) > 0 {
		if st, err := s.TryStatus(); err == nil {
			_ = syscall.Kill(st.PID, syscall.SIGTERM)
			// The second one says that nobody is to be waited for: a client
			// that the test left is no reason to wait for drain_timeout.
			_ = syscall.Kill(st.PID, syscall.SIGTERM)
		} else if !s.t.Failed() {
			s.t.Errorf("no master answers at the end of the test: %v", err)
		}
	}
	s.checkGone()
	if log := s.Log(); strings.Contains(log, "WARNING: DATA RACE") {
		s.t.Errorf("data race in the server:\n%s", tail(log, 120))
	} else if !s.panics && strings.Contains(log, "panic: ") || strings.Contains(log, "fatal error: ") {
		s.t.Errorf("panic in the server:\n%s", tail(log, 120))
	}
	_ = os.RemoveAll(s.Dir)
}

// checkGone reports processes, zombies, files and sockets, and ends processes.
func (s *Server) checkGone() {
	end := time.Now().Add(Within)
	for len(s.Processes()) > 0 && time.Now().Before(end) {
		reap()
		time.Sleep(5 * time.Millisecond)
	}
	left := s.Processes()
	for _, pid := range left {
		p, _ := ReadProcess(pid)
		s.t.Errorf("left behind: process %d (%s, state %c, parent %d)", pid, p.Name, p.State, p.PPID)
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	if len(left) > 0 {
		for range 1000 {
			if reap(); len(s.Processes()) == 0 {
				break
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	if s.exited != nil {
		<-s.exited
	}
	reap()
	if len(left) == 0 && !s.killed() {
		s.checkFiles()
	}
	for port := range s.ports {
		for _, line := range BoundSockets(port) {
			s.t.Errorf("left behind: a socket on port %d: %s", port, line)
		}
	}
}

// killed tells whether some master died of SIGKILL: then its files may stay.
func (s *Server) killed() bool {
	if st, ok := s.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && st.Signaled() {
		return true
	}
	return s.ended && s.orphaned()
}

// orphaned tells whether the last master left its socket behind, as one that
// was killed does.
func (s *Server) orphaned() bool {
	data, err := os.ReadFile(filepath.Join(s.RuntimeDir, "reuseportd.pid"))
	if err != nil {
		return false
	}
	pid, _ := strconv.Atoi(strings.TrimSpace(string(data)))
	reaped.Lock()
	defer reaped.Unlock()
	ws, ok := reaped.status[pid]
	return ok && ws.Signaled()
}

// lockFile may stay: removing a lock file opens a race between two masters.
var lockFiles = map[string]bool{"lock": true, "reuseportd.lock": true}

func (s *Server) checkFiles() {
	entries, err := os.ReadDir(s.RuntimeDir)
	if err != nil {
		return // it was removed whole
	}
	for _, e := range entries {
		if !lockFiles[e.Name()] {
			s.t.Errorf("left behind: file %s", filepath.Join(s.RuntimeDir, e.Name()))
		}
	}
}

// BoundSockets are the lines of /proc/net/tcp and tcp6 about sockets on a local
// port that a process holds; those in TIME_WAIT belong to nobody.
func BoundSockets(port int) []string {
	var found []string
	for _, file := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		data, _ := os.ReadFile(file)
		for line := range strings.Lines(string(data)) {
			f := strings.Fields(line)
			if len(f) < 10 || f[9] == "0" {
				continue
			}
			if strings.HasSuffix(f[1], fmt.Sprintf(":%04X", port)) {
				found = append(found, strings.TrimSpace(line))
			}
		}
	}
	return found
}

// explain prints what a person needs who looks for the reason of a failure.
func (s *Server) explain() {
	s.t.Logf("server in %s, processes %v", s.Dir, s.Processes())
	if st, err := s.TryStatus(); err == nil {
		s.t.Logf("status: %s", asJSON(st))
	} else {
		s.t.Logf("status: %v", err)
	}
	if entries, err := os.ReadDir(s.failpoint); err == nil && len(entries) > 0 {
		s.t.Logf("failpoints: %v", entries)
	}
	s.t.Logf("log:\n%s", tail(s.Log(), 150))
}

func tail(text string, lines int) string {
	all := strings.Split(strings.TrimRight(text, "\n"), "\n")
	if len(all) > lines {
		all = append([]string{fmt.Sprintf("… %d lines before", len(all)-lines)}, all[len(all)-lines:]...)
	}
	return strings.Join(all, "\n")
}
