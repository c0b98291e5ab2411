package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

type stat struct {
	ppid int
	cpu  time.Duration // utime + stime
}

// readStat reads proc_pid_stat(5).
func readStat(pid int) (stat, bool) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	i := bytes.LastIndexByte(data, ')')
	if err != nil || i < 0 {
		return stat{}, false
	}
	f := strings.Fields(string(data[i+1:]))
	if len(f) < 13 {
		return stat{}, false
	}
	ppid, _ := strconv.Atoi(f[1])
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	const tick = time.Second / 100 // USER_HZ
	return stat{ppid, time.Duration(user+system) * tick}, true
}

// tree is root and all its descendants.
func tree(root int) []int {
	children := make(map[int][]int)
	paths, _ := filepath.Glob("/proc/[0-9]*")
	for _, path := range paths {
		pid, _ := strconv.Atoi(filepath.Base(path))
		if s, ok := readStat(pid); ok {
			children[s.ppid] = append(children[s.ppid], pid)
		}
	}
	all := []int{root}
	for i := 0; i < len(all); i++ {
		all = append(all, children[all[i]]...)
	}
	return all
}

// cpu is the CPU time of all the server's processes that live.
func (c *contender) cpu() time.Duration {
	var sum time.Duration
	for _, pid := range tree(c.cmd.Process.Pid) {
		if s, ok := readStat(pid); ok {
			sum += s.cpu
		}
	}
	return sum
}

// private is the private memory of all the server's processes in bytes
// (proc_pid_smaps(5), Private_Clean and Private_Dirty).
func (c *contender) private() (int, error) {
	sum := 0
	for _, pid := range tree(c.cmd.Process.Pid) {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
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
