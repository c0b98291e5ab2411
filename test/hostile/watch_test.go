package hostile

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"reuseportd/test/harness"
)

// Bounds of what anybody may make the master use. Two hundred clients of the control socket, a
// change's channels and a record are far below.
const (
	maxRSS  = 256 << 10 // KB
	maxFDs  = 600
	maxRate = 100 << 10 // bytes of log a second, over a round,
	burst   = 256 << 10 // beside so many at its beginning: a worker may say 512 things at once, and 200 a second
)

// worst is what the master has needed at most.
type worst struct {
	mu              sync.Mutex
	rss, fds        int
	open            map[string]int // what fds were
	slowest         time.Duration  // answer to status
	asked, answered int
}

// sample asks for the status and looks at the master that has answered.
func (w *worst) sample(s *harness.Server) {
	began := time.Now()
	st, err := s.TryStatus()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked++
	if err != nil {
		return // it may have been killed: rounds end with one that answers
	}
	w.answered++
	w.slowest = max(w.slowest, time.Since(began))
	rss, _ := strconv.Atoi(strings.TrimSuffix(harness.ProcStatus(st.PID, "VmRSS"), " kB"))
	fds, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", st.PID))
	w.rss = max(w.rss, rss)
	if len(fds) > w.fds {
		w.fds, w.open = len(fds), describe(st.PID, fds)
	}
}

// describe counts descriptors by what they are.
func describe(pid int, fds []os.DirEntry) map[string]int {
	kinds := make(map[string]int)
	for _, e := range fds {
		name, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", pid, e.Name()))
		kind, _, _ := strings.Cut(name, ":[")
		kinds[kind]++
	}
	return kinds
}

// watchLog is how much the log has grown, and its faults since.
type watchLog struct {
	path    string
	seen    int
	highest float64 // bytes a second
}

func (l *watchLog) look(a *account, took time.Duration, what string) {
	text, err := os.ReadFile(l.path)
	if err != nil {
		a.fault("%v", err)
		return
	}
	grown := text[l.seen:]
	l.seen = len(text)
	l.highest = max(l.highest, float64(len(grown))/took.Seconds())
	if float64(len(grown)) > burst+maxRate*took.Seconds() {
		a.fault("%s: the log has grown by %d bytes in %v", what, len(grown), took)
	}
	for line := range strings.Lines(string(grown)) {
		for _, bad := range []string{"panic: ", "fatal error: ", "DATA RACE", "goroutine 1 ["} {
			if strings.Contains(line, bad) {
				a.fault("%s: the log says %q", what, line)
			}
		}
		if strings.ContainsAny(strings.TrimRight(line, "\n"), "\x1b\x00\x07\r") && !strings.Contains(line, "\x1b[0m") {
			a.fault("%s: the log has control characters: %q", what, line)
		}
	}
}

// strange are files beside the server's own.
func strange(s *harness.Server) (names []string) {
	own := map[string]bool{"run": true, "config.yaml": true, "reuseportd": true, "log": true, "fail": true}
	entries, _ := os.ReadDir(s.Dir)
	for _, e := range entries {
		if !own[e.Name()] {
			names = append(names, filepath.Join(s.Dir, e.Name()))
		}
	}
	return names
}
