package control

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Process is what /proc says of a process that doesn't answer.
type Process struct {
	PID     int
	State   byte // proc_pid_stat(5): R, S, D, T, t, Z …
	Started time.Time
}

// LookAt reads /proc/PID/stat. The error is fs.ErrNotExist if there is no such process, or
// it can't be seen from here.
func LookAt(pid int) (Process, error) {
	if pid <= 0 {
		return Process{}, os.ErrNotExist
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return Process{}, err
	}
	state, ticks, err := parseStat(string(text))
	if err != nil {
		return Process{}, err
	}
	p := Process{PID: pid, State: state}
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err == nil {
		const tick = time.Second / 100 // USER_HZ, which is the same on every Linux
		p.Started = time.Now().Add(time.Duration(min(ticks, 1<<40))*tick - time.Duration(now.Nano()))
	}
	return p, nil
}

// parseStat returns fields 3 and 22. The second one is a name that may hold anything.
func parseStat(text string) (state byte, ticks uint64, err error) {
	f := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(f) < 20 || len(f[0]) != 1 || f[0][0]|0x20 < 'a' || f[0][0]|0x20 > 'z' {
		return 0, 0, errors.New("its line in /proc is not understood")
	}
	ticks, err = strconv.ParseUint(f[19], 10, 64)
	return f[0][0], ticks, err
}

// Held reports whether the process can't go on by itself: it is stopped, traced or dead.
func (p Process) Held() bool { return strings.IndexByte("TtZX", p.State) >= 0 }

// String describes the process for a person.
func (p Process) String() string {
	how := fmt.Sprintf("is alive (state %c)", p.State)
	switch p.State {
	case 'T':
		how = fmt.Sprintf("is stopped (state T; `kill -CONT %d` lets it go on)", p.PID)
	case 't':
		how = "is held by a debugger (state t)"
	case 'D':
		how = "waits for a disk or a file system (state D)"
	case 'Z', 'X':
		how = fmt.Sprintf("has ended (state %c)", p.State)
	}
	return fmt.Sprintf("its process %d %s; it was started at %s", p.PID, how, p.Started.Format("2006-01-02 15:04:05"))
}

// describe says what can be seen of the master with a PID; 0: unknown.
func describe(pid int) string {
	p, err := LookAt(pid)
	switch {
	case err == nil:
		return p.String()
	case pid <= 0:
		return "its process can't be seen from here"
	default:
		return fmt.Sprintf("no process %d can be seen from here", pid)
	}
}
