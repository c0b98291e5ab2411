package harness

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
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
	// No process may stay held by a failpoint that the test has left armed.
	if entries, err := os.ReadDir(s.failpoint); err == nil {
		for _, e := range entries {
			_ = os.Remove(filepath.Join(s.failpoint, e.Name()))
		}
	}
	if !s.ended && len(s.Processes()) > 0 {
		st, err := s.TryStatus()
		for end := time.Now().Add(Within); superseded(err) && time.Now().Before(end); {
			time.Sleep(5 * time.Millisecond) // the test has ended with an upgrade
			st, err = s.TryStatus()
		}
		if err == nil {
			_ = syscall.Kill(st.PID, syscall.SIGTERM)
			// The second one says that nobody is to be waited for: a client
			// that the test left is no reason to wait for drain_timeout. Two that
			// wait at the same time are one, signal(7).
			for range 100 {
				if st, err := s.TryStatus(); err != nil || st.Change == "stop" {
					break
				}
				time.Sleep(5 * time.Millisecond)
			}
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
	if len(left) == 0 && !s.killed {
		s.checkFiles()
	}
	s.checkSockets()
}

// checkSockets waits for the last threads of killed processes: a process is a
// zombie, by its first thread, while others of it still hold its descriptors.
func (s *Server) checkSockets() {
	for end := time.Now().Add(Within); ; time.Sleep(5 * time.Millisecond) {
		sockets, err := BoundSockets(s.ports)
		if err != nil {
			s.t.Error(err)
			return
		}
		if len(sockets) == 0 {
			return
		}
		if time.Now().After(end) {
			s.t.Errorf("left behind: sockets %+v", sockets)
			return
		}
	}
}

// lockFiles may stay: to remove one opens a race between two masters.
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

// explain prints what helps a person to find the reason of a failure.
func (s *Server) explain() {
	s.t.Logf("server in %s, processes %v", s.Dir, s.Processes())
	if st, err := s.TryStatus(); err == nil {
		s.t.Logf("status: %s", oneLine(st))
	} else {
		s.t.Logf("status: %v", err)
	}
	if entries, err := os.ReadDir(s.failpoint); err == nil && len(entries) > 0 {
		s.t.Logf("failpoints: %v", entries)
	}
	log := s.Log()
	s.t.Logf("masters' log:\n%s", tail(ofMasters(log), 40))
	s.t.Logf("log:\n%s", tail(log, 120))
}

// ofMasters returns what masters have logged, and what ended one.
func ofMasters(log string) string {
	var b strings.Builder
	for line := range strings.Lines(log) {
		if strings.Contains(line, `"role":"master"`) || !strings.HasPrefix(line, "{") {
			b.WriteString(line)
		}
	}
	return b.String()
}

func tail(text string, lines int) string {
	all := strings.Split(strings.TrimRight(text, "\n"), "\n")
	if len(all) > lines {
		all = append([]string{fmt.Sprintf("… %d lines before", len(all)-lines)}, all[len(all)-lines:]...)
	}
	return strings.Join(all, "\n")
}
