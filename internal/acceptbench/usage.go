package acceptbench

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// usage is what the kernel has counted until one moment.
type usage struct {
	at        time.Time
	server    time.Duration // CPU time of master and workers
	switches  uint64        // their threads' context switches
	generator time.Duration // CPU time of this process
	idle      time.Duration // the sum over all CPUs that we may use (taskset)
}

// usageOf takes the usage of a server's processes.
func usageOf(pids []int) usage {
	u := usage{at: time.Now(), generator: ownCPU(), idle: idleTime()}
	for _, pid := range pids {
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/[0-9]*", pid))
		for _, task := range tasks {
			u.server += taskCPU(task)
			u.switches += taskSwitches(task)
		}
	}
	return u
}

// taskCPU returns a thread's CPU time: from schedstat in nanoseconds, or, if the kernel
// doesn't have that, from stat in ticks of 10 ms.
func taskCPU(task string) time.Duration {
	if data, err := os.ReadFile(task + "/schedstat"); err == nil {
		if f := strings.Fields(string(data)); len(f) == 3 && f[0] != "0" {
			ns, _ := strconv.ParseInt(f[0], 10, 64)
			return time.Duration(ns)
		}
	}
	data, _ := os.ReadFile(task + "/stat")
	f := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	if len(f) < 13 {
		return 0 // it has ended
	}
	user, _ := strconv.ParseInt(f[11], 10, 64)
	system, _ := strconv.ParseInt(f[12], 10, 64)
	return time.Duration(user+system) * tick
}

const tick = time.Second / 100 // USER_HZ

func taskSwitches(task string) uint64 {
	data, _ := os.ReadFile(task + "/status")
	return parseSwitches(string(data))
}

// parseSwitches sums up the two kinds of context switches of proc_pid_status(5).
func parseSwitches(status string) (sum uint64) {
	for line := range strings.Lines(status) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.HasSuffix(name, "voluntary_ctxt_switches") {
			n, _ := strconv.ParseUint(strings.TrimSpace(value), 10, 64)
			sum += n
		}
	}
	return sum
}

func ownCPU() time.Duration {
	var r syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &r) != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

func idleTime() time.Duration {
	data, _ := os.ReadFile("/proc/stat")
	var ours unix.CPUSet
	if unix.SchedGetaffinity(0, &ours) != nil {
		return 0
	}
	return parseIdle(string(data), &ours)
}

// parseIdle sums up idle and iowait of the given CPUs, proc_stat(5).
func parseIdle(stat string, of *unix.CPUSet) (sum time.Duration) {
	for line := range strings.Lines(stat) {
		f := strings.Fields(line)
		if len(f) < 6 {
			continue
		}
		number, ok := strings.CutPrefix(f[0], "cpu")
		cpu, err := strconv.Atoi(number)
		if !ok || err != nil || !of.IsSet(cpu) { // the first line is the sum of all
			continue
		}
		idle, _ := strconv.ParseInt(f[4], 10, 64)
		wait, _ := strconv.ParseInt(f[5], 10, 64)
		sum += time.Duration(idle+wait) * tick
	}
	return sum
}
