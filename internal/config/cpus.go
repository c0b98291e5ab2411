package config

import (
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// autoWorkers is how many CPUs this process may use: those of its affinity
// mask (sched_getaffinity(2)), or fewer when a cgroup v2 CPU quota allows
// less, rounded up. It doesn't ask runtime.GOMAXPROCS, which workers set for
// themselves and which never goes below 2 for a quota.
func autoWorkers() int {
	n := runtime.NumCPU()
	var set unix.CPUSet
	if unix.SchedGetaffinity(0, &set) == nil {
		n = set.Count()
	}
	cgroup, _ := os.ReadFile("/proc/self/cgroup")
	if q := cpuQuota("/sys/fs/cgroup", string(cgroup)); q > 0 {
		n = min(n, int(math.Ceil(q)))
	}
	return max(n, 1)
}

// cpuQuota returns the least cpu.max of the cgroup and of those above it, in
// CPUs; 0 is no bound. self is the text of /proc/self/cgroup (cgroups(7)).
func cpuQuota(mount, self string) float64 {
	least := 0.0
	for line := range strings.Lines(self) {
		path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::")
		if !ok {
			continue
		}
		for dir := filepath.Clean("/" + path); ; dir = filepath.Dir(dir) {
			raw, _ := os.ReadFile(filepath.Join(mount, dir, "cpu.max"))
			if q, ok := parseQuota(string(raw)); ok && (least == 0 || q < least) {
				least = q
			}
			if dir == "/" {
				break
			}
		}
	}
	return least
}

// parseQuota reads "50000 100000", quota and period in microseconds.
func parseQuota(s string) (cpus float64, ok bool) {
	f := strings.Fields(s)
	if len(f) != 2 {
		return 0, false
	}
	quota, err1 := strconv.ParseFloat(f[0], 64) // "max" is an error here: no bound
	period, err2 := strconv.ParseFloat(f[1], 64)
	if err1 != nil || err2 != nil || quota <= 0 || period <= 0 {
		return 0, false
	}
	return quota / period, true
}
