package harness

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Process is what /proc says of a process.
type Process struct {
	PID, PPID int
	State     byte // as in proc_pid_stat(5): R S D Z T …
	Name      string
	CPU       time.Duration // user and system time
}

// ReadProcess reads /proc/PID/stat.
func ReadProcess(pid int) (Process, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return Process{}, err
	}
	open, shut := bytes.IndexByte(data, '('), bytes.LastIndexByte(data, ')')
	if open < 0 || shut < open {
		return Process{}, fmt.Errorf("/proc/%d/stat: not understood", pid)
	}
	f := strings.Fields(string(data[shut+1:]))
	if len(f) < 13 {
		return Process{}, fmt.Errorf("/proc/%d/stat: too short", pid)
	}
	p := Process{PID: pid, State: f[0][0], Name: string(data[open+1 : shut])}
	p.PPID, _ = strconv.Atoi(f[1])
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	p.CPU = time.Duration(user+system) * (time.Second / 100) // USER_HZ is 100
	return p, nil
}

func allPIDs() []int {
	paths, _ := filepath.Glob("/proc/[0-9]*")
	var pids []int
	for _, path := range paths {
		if pid, err := strconv.Atoi(filepath.Base(path)); err == nil {
			pids = append(pids, pid)
		}
	}
	sort.Ints(pids)
	return pids
}

// Processes are the PIDs of this server that have not exited: those with its
// marker in the environment, its directory in the command line, or its binary
// as the executable, whatever the file at that path is now.
func (s *Server) Processes() []int {
	var mine []int
	for _, pid := range allPIDs() {
		if pid == os.Getpid() || !s.owns(pid) {
			continue
		}
		if p, err := ReadProcess(pid); err == nil && p.State != 'Z' && p.State != 'X' {
			mine = append(mine, pid)
		}
	}
	return mine
}

func (s *Server) owns(pid int) bool {
	proc := fmt.Sprintf("/proc/%d/", pid)
	exe, err := os.Readlink(proc + "exe")
	if err == nil && strings.HasPrefix(exe, s.Dir+"/") {
		return true
	}
	// What can't be read is gone, or is not ours.
	env, _ := os.ReadFile(proc + "environ")
	if bytes.Contains(append(env, 0), []byte(s.marker+"\x00")) {
		return true
	}
	cmdline, _ := os.ReadFile(proc + "cmdline")
	return bytes.Contains(cmdline, []byte(s.Dir+"/"))
}

// managed are the children that an exec.Cmd waits for.
var managed = pidSet{pids: make(map[int]bool)}

type pidSet struct {
	sync.Mutex
	pids map[int]bool
}

func (p *pidSet) add(pid int)    { p.Lock(); p.pids[pid] = true; p.Unlock() }
func (p *pidSet) remove(pid int) { p.Lock(); delete(p.pids, pid); p.Unlock() }
func (p *pidSet) has(pid int) bool {
	p.Lock()
	defer p.Unlock()
	return p.pids[pid]
}

// statuses of children that came to this process from masters that ended.
var reaped = struct {
	sync.Mutex
	status map[int]syscall.WaitStatus
}{status: make(map[int]syscall.WaitStatus)}

// orphanNames are what reap may take; a worker that was started from
// /proc/self/exe is called exe.
var orphanNames = map[string]bool{"reuseportd": true, "exe": true, "sleep": true, "sh": true}

// reap waits for the exited children that nobody else waits for.
func reap() {
	for _, pid := range allPIDs() {
		p, err := ReadProcess(pid)
		if err != nil || p.PPID != os.Getpid() || p.State != 'Z' || managed.has(pid) {
			continue
		}
		// Not every zombie is an orphan: a command that another test just
		// started may have ended before it was added to managed. A server's
		// process is told by its name.
		if !orphanNames[p.Name] {
			continue
		}
		var ws syscall.WaitStatus
		if got, err := syscall.Wait4(pid, &ws, syscall.WNOHANG, nil); err == nil && got == pid {
			reaped.Lock()
			reaped.status[pid] = ws
			reaped.Unlock()
		}
	}
}

// WaitPID waits for the end of any process of the server and returns its exit
// status: -1 for a signal, -2 when another process has taken it.
func (s *Server) WaitPID(pid int) int {
	s.t.Helper()
	if s.cmd != nil && pid == s.FirstPID() {
		return s.WaitExit()
	}
	s.Wait(fmt.Sprintf("process %d to end", pid), func() bool {
		reap()
		_, err := ReadProcess(pid)
		return err != nil
	})
	reaped.Lock()
	defer reaped.Unlock()
	ws, ok := reaped.status[pid]
	if !ok {
		return -2
	}
	return ws.ExitStatus()
}

// Gone reports whether pid has ended.
func Gone(pid int) bool {
	reap()
	p, err := ReadProcess(pid)
	if err != nil || p.State == 'X' {
		return true
	}
	// The first thread is a zombie while others may yet hold descriptors.
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	return p.State == 'Z' && (err != nil || len(threads) <= 1)
}

// StopProcess stops a process (SIGSTOP) and returns when none of its threads
// runs any more.
func StopProcess(t testing.TB, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	Wait(t, fmt.Sprintf("process %d to stop", pid), func() bool { return stopped(pid) })
}

// ContinueProcess ends what StopProcess began.
func ContinueProcess(t testing.TB, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
}

func stopped(pid int) bool {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	for _, task := range tasks {
		data, err := os.ReadFile(task)
		if err != nil {
			continue // that thread has ended
		}
		if i := bytes.LastIndexByte(data, ')'); i < 0 || i+2 >= len(data) || data[i+2] != 'T' {
			return false
		}
	}
	return len(tasks) > 0
}

// KillOrphans kills what is left of the server after its master was killed.
func (s *Server) KillOrphans() {
	s.t.Helper()
	for _, pid := range s.Processes() {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			s.t.Error(err)
		}
	}
	s.Wait("the orphans to end", func() bool { reap(); return len(s.Processes()) == 0 })
	s.ended, s.killed = true, true
}

// ProcStatus is one field of /proc/PID/status, "" if there is none.
func ProcStatus(pid int, field string) string {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(data)) {
		if value, ok := strings.CutPrefix(line, field+":"); ok {
			return strings.Join(strings.Fields(value), " ")
		}
	}
	return ""
}
