package sandbox

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Report is what the kernel has in force for a process, proc_pid_status(5).
type Report struct {
	UID, GID     uint32 // all of the real, effective, saved and file system IDs
	NoNewPrivs   bool
	Seccomp      bool   // a filter of system calls
	Bounding     uint64 // the capabilities that it could ever have again, by bits
	Capabilities uint64 // permitted
}

// ReadReport asks the kernel about a process. It fails where the IDs are not all the same: such
// a process could go back to another of them.
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
			continue // absent where the kernel has none
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
