package rig

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Adopt makes this process the parent of orphans among its descendants
// (PR_SET_CHILD_SUBREAPER), so that processes that a replaced or killed master leaves
// behind are found. Orphans that have exited remain zombies until this process ends, too.
func Adopt() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become the parent of orphans: %w", err)
	}
	return nil
}

// Process is what /proc says about a process.
type Process struct {
	PID, PPID int
	CPU       time.Duration // utime + stime
	Command   string        // arguments separated by spaces, as the program may have changed them
}

// readProcess reads proc_pid_stat(5).
func readProcess(pid int) (Process, bool) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	i := bytes.LastIndexByte(data, ')')
	if err != nil || i < 0 {
		return Process{}, false
	}
	f := strings.Fields(string(data[i+1:]))
	if len(f) < 13 {
		return Process{}, false
	}
	ppid, _ := strconv.Atoi(f[1])
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	const tick = time.Second / 100 // USER_HZ
	args, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	command := strings.TrimRight(string(bytes.ReplaceAll(args, []byte{0}, []byte{' '})), " ")
	return Process{pid, ppid, time.Duration(user+system) * tick, command}, true
}

// Descendants returns all processes below this one, including zombies.
func Descendants() []Process {
	children := make(map[int][]Process)
	paths, _ := filepath.Glob("/proc/[0-9]*")
	for _, path := range paths {
		pid, _ := strconv.Atoi(filepath.Base(path))
		if p, ok := readProcess(pid); ok {
			children[p.PPID] = append(children[p.PPID], p)
		}
	}
	all := children[os.Getpid()]
	for i := 0; i < len(all); i++ {
		all = append(all, children[all[i].PID]...)
	}
	return all
}

// Processes returns the server's living processes, whoever their parent is.
func (s *Server) Processes() []Process {
	path := s.Args[0]
	renamed := path
	if now, err := os.Readlink(s.Path); err == nil {
		renamed = strings.TrimSuffix(now, deleted)
	}
	return slices.DeleteFunc(Descendants(), func(p Process) bool {
		// A zombie has no exe.
		exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", p.PID))
		return err != nil || !strings.HasPrefix(exe, path) && !strings.HasPrefix(exe, renamed)
	})
}

// deleted is what the kernel appends to the name of a replaced binary.
const deleted = " (deleted)"

// CPU returns the CPU time of all living processes of the server.
func (s *Server) CPU() time.Duration {
	var sum time.Duration
	for _, p := range s.Processes() {
		sum += p.CPU
	}
	return sum
}

// Switches returns the context switches, voluntary and not, of all threads of the server's processes, except
// threads that have ended.
func (s *Server) Switches() int {
	sum := 0
	for _, p := range s.Processes() {
		paths, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", p.PID))
		for _, path := range paths {
			data, _ := os.ReadFile(path)
			sum += switchesOf(string(data))
		}
	}
	return sum
}

// switchesOf reads proc_pid_status(5).
func switchesOf(status string) int {
	sum := 0
	for line := range strings.Lines(status) {
		name, value, _ := strings.Cut(line, ":")
		if name == "voluntary_ctxt_switches" || name == "nonvoluntary_ctxt_switches" {
			n, _ := strconv.Atoi(strings.TrimSpace(value))
			sum += n
		}
	}
	return sum
}

// Private returns the private memory of all the server's processes in bytes
// (proc_pid_smaps(5), Private_Clean and Private_Dirty).
func (s *Server) Private() (int, error) {
	sum := 0
	for _, p := range s.Processes() {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", p.PID))
		if err != nil {
			return 0, err
		}
		for line := range strings.Lines(string(data)) {
			f := strings.Fields(line)
			if len(f) == 3 && (f[0] == "Private_Clean:" || f[0] == "Private_Dirty:") {
				kb, _ := strconv.Atoi(f[1])
				sum += kb << 10
			}
		}
	}
	return sum, nil
}

// Exits watches processes for their end.
type Exits struct {
	fds []unix.PollFd
}

// WatchExits opens the processes (pidfd_open(2)), so that a process that gets a PID later
// isn't mistaken for one of them. It leaves out those that have ended.
func WatchExits(pids []int) (*Exits, error) {
	e := new(Exits)
	for _, pid := range pids {
		fd, err := unix.PidfdOpen(pid, 0)
		switch {
		case err == unix.ESRCH:
		case err != nil:
			e.Close()
			return nil, fmt.Errorf("watch process %d: %w", pid, err)
		default:
			e.fds = append(e.fds, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
		}
	}
	return e, nil
}

// Wait waits until all processes have ended, and returns when the last one did.
func (e *Exits) Wait(ctx context.Context) (time.Time, error) {
	for len(e.fds) > 0 {
		if err := ctx.Err(); err != nil {
			return time.Time{}, fmt.Errorf("old processes have not ended, %d of them: %w", len(e.fds), err)
		}
		const slice = 100 // ms, after which ctx is checked
		if _, err := unix.Poll(e.fds, slice); err != nil && err != unix.EINTR {
			return time.Time{}, fmt.Errorf("wait for old processes: %w", err)
		}
		e.fds = slices.DeleteFunc(e.fds, func(p unix.PollFd) bool {
			if p.Revents == 0 {
				return false
			}
			_ = unix.Close(int(p.Fd))
			return true
		})
	}
	return time.Now(), nil
}

// Close ends the watch.
func (e *Exits) Close() {
	for _, p := range e.fds {
		_ = unix.Close(int(p.Fd))
	}
	e.fds = nil
}
