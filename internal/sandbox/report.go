package sandbox

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Report is what is in force for a process, as the kernel says in proc_pid_status(5).
type Report struct {
	UID, GID     uint32 // all of the real, effective, saved and file system IDs
	NoNewPrivs   bool
	Seccomp      bool   // a filter of system calls
	Bounding     uint64 // a bit for each capability that it could ever gain
	Capabilities uint64 // permitted
}

// ReadReport asks the kernel about a process. It returns an error if the IDs are not all the
// same, since such a process could change to another one of them.
func ReadReport(pid int) (Report, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return Report{}, err
	}
	r, err := parseStatus(string(text))
	if err != nil {
		return Report{}, fmt.Errorf("/proc/%d/status: %w", pid, err)
	}
	return r, nil
}

func parseStatus(text string) (r Report, err error) {
	seen := 0
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		var bad error
		switch key {
		case "Uid":
			r.UID, bad = sameID(value)
		case "Gid":
			r.GID, bad = sameID(value)
		case "NoNewPrivs":
			r.NoNewPrivs = value == "1"
		case "Seccomp":
			r.Seccomp = value == "2"
			continue // absent if the kernel has no such feature
		case "CapBnd":
			r.Bounding, bad = strconv.ParseUint(value, 16, 64)
		case "CapPrm":
			r.Capabilities, bad = strconv.ParseUint(value, 16, 64)
		default:
			continue
		}
		seen++
		if bad != nil && err == nil {
			err = fmt.Errorf("%s: %w", key, bad)
		}
	}
	if err == nil && seen != 5 {
		err = fmt.Errorf("%d of 5 fields are there", seen)
	}
	return r, err
}

func sameID(value string) (uint32, error) {
	ids := strings.Fields(value)
	for _, id := range ids {
		if id != ids[0] {
			return 0, fmt.Errorf("several IDs: %s", value)
		}
	}
	if len(ids) != 4 {
		return 0, fmt.Errorf("not four IDs: %q", value)
	}
	n, err := strconv.ParseUint(ids[0], 10, 32)
	return uint32(n), err
}
