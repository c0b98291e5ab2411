package initd

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// pidFile is a PID file as it was at one moment; pid is 0 when there is none.
type pidFile struct {
	pid  int
	stat os.FileInfo
}

// readPIDFile reads a PID file, which must be this user's own, since the process that it
// names is sent this process's signals. It follows no link and doesn't wait for a FIFO.
func readPIDFile(path string) pidFile {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return pidFile{}
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil || !st.Mode().IsRegular() {
		return pidFile{}
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); !ok || int(sys.Uid) != os.Geteuid() {
		return pidFile{}
	}
	var buf [32]byte
	n, _ := f.Read(buf[:])
	pid, err := strconv.Atoi(string(bytes.TrimSpace(buf[:n])))
	if err != nil || pid <= 1 {
		return pidFile{}
	}
	return pidFile{pid: pid, stat: st}
}

// same reports whether f and g are the same file, unchanged. Each master makes a new
// file; the time is compared since inode numbers are reused.
func (f pidFile) same(g pidFile) bool {
	return f.stat != nil && g.stat != nil && os.SameFile(f.stat, g.stat) && f.stat.ModTime().Equal(g.stat.ModTime())
}

// alive reports whether pid is running. A zombie isn't.
func alive(pid int) bool {
	state, _ := stat(pid)
	return state != "" && state != "Z" && state != "X"
}

// descends reports whether a process is a child of this one's, or a child's child and so on.
func descends(pid int) bool {
	const retries, generations = 100, 64
	for range retries {
		at := pid
		for range generations {
			if at <= 1 {
				break
			}
			if _, at = stat(at); at == os.Getpid() {
				return true
			}
		}
		if _, parent := stat(pid); at != 0 || parent == 0 {
			return false // the way up ends elsewhere, or the process has ended
		}
		// Somebody on the way has ended meanwhile, so the way is another one.
	}
	return false
}

// stat reads the state of a process and its parent's PID, "" and 0 if there is no
// such process.
func stat(pid int) (state string, ppid int) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", 0
	}
	// The name in parentheses may hold anything; the state follows it
	// (proc_pid_stat(5)).
	if _, err := fmt.Sscan(string(text[bytes.LastIndexByte(text, ')')+1:]), &state, &ppid); err != nil {
		return "", 0
	}
	return state, ppid
}
