package harness

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// What an armed failpoint does to a process that reaches it.
const (
	Pause = "pause" // until Disarm
	Kill  = "kill"  // SIGKILL to itself
	Exit  = "exit"
	Panic = "panic"
	Error = "error"
)

// Arm makes every process of the server act when it reaches the failpoint
// called name.
func (s *Server) Arm(name, action string) {
	s.t.Helper()
	// Renamed into place, so that nobody finds it half-written.
	next := filepath.Join(s.failpoint, "."+name)
	s.must(os.WriteFile(next, []byte(action), 0o644))
	s.must(os.Rename(next, filepath.Join(s.failpoint, name)))
}

// Disarm releases the processes that pause at name, and forgets its hits.
func (s *Server) Disarm(name string) {
	s.t.Helper()
	hits, err := filepath.Glob(filepath.Join(s.failpoint, name+".hit.*"))
	s.must(err)
	for _, path := range append(hits, filepath.Join(s.failpoint, name)) {
		if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
			s.t.Fatal(err)
		}
	}
}

// WaitHit waits until a process reaches name and returns its PID.
func (s *Server) WaitHit(name string) int {
	s.t.Helper()
	var pid int
	s.Wait("failpoint "+name+" to be reached", func() bool {
		hits := s.Hits(name)
		if len(hits) > 0 {
			pid = hits[0]
		}
		return pid != 0
	})
	return pid
}

// Hits returns the PIDs of the processes that have reached name since it was armed.
func (s *Server) Hits(name string) []int {
	paths, _ := filepath.Glob(filepath.Join(s.failpoint, name+".hit.*"))
	var pids []int
	for _, path := range paths {
		if pid, err := strconv.Atoi(path[strings.LastIndexByte(path, '.')+1:]); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// Tried arms name with `try WHAT`, what an attacker would do, and returns the outcome in the one
// process that reach makes reach it.
func (s *Server) Tried(name, what string, reach func()) string {
	s.t.Helper()
	s.Arm(name, "try "+what)
	reach()
	var text []byte
	s.Wait("a worker to try "+what, func() bool {
		paths, _ := filepath.Glob(filepath.Join(s.failpoint, name+".tried.*"))
		if len(paths) == 0 {
			return false
		}
		var err error
		text, err = os.ReadFile(paths[0])
		return err == nil && strings.HasSuffix(string(text), "\n")
	})
	s.Disarm(name)
	paths, err := filepath.Glob(filepath.Join(s.failpoint, name+".tried.*"))
	s.must(err)
	for _, path := range paths {
		s.must(os.Remove(path))
	}
	return strings.TrimSpace(string(text))
}
