package sockdiag

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// procPatience bounds the walk through /proc: it costs a microsecond for each open file of
// the machine.
const procPatience = 250 * time.Millisecond

// Holder is a process that has some of the sockets in question, or a socket whose process can't
// be seen.
type Holder struct {
	PID     int    // 0 if it can't be seen: it is another user's (CAP_SYS_PTRACE) or in another PID namespace
	Command string // of bounded length, and printable
	// Others counts its children that have the same sockets.
	Others int
	Socket Socket // one of them
}

// String names the holder, for a person.
func (h Holder) String() string {
	if h.PID == 0 {
		return fmt.Sprintf("a process that can't be seen from here (uid %d, socket inode %d)", h.Socket.UID, h.Socket.Inode)
	}
	text := fmt.Sprintf("PID %d (uid %d", h.PID, h.Socket.UID)
	if h.Command != "" {
		text += ", " + h.Command
	}
	text += ")"
	if h.Others == 1 {
		text += " and a child of its"
	} else if h.Others > 1 {
		text += fmt.Sprintf(" and %d children of its", h.Others)
	}
	return text
}

// Holders returns the processes that have the sockets, without children of other ones. For sockets
// whose process can't be seen it returns one holder for each user. A process may have ended when it
// returns.
func Holders(sockets []Socket) []Holder {
	wanted := make(map[string]*Socket)
	for i := range sockets {
		wanted[fmt.Sprintf("socket:[%d]", sockets[i].Inode)] = &sockets[i]
	}
	found := make(map[int]*Socket)
	seen := make(map[uint32]bool)
	eachDescriptor(time.Now().Add(procPatience), func(pid int, target string) {
		if s := wanted[target]; s != nil {
			seen[s.Inode] = true
			if found[pid] == nil {
				found[pid] = s
			}
		}
	})
	var out []Holder
	for pid, s := range found {
		if found[parent(pid)] == nil {
			out = append(out, Holder{PID: pid, Command: Command(pid), Socket: *s})
		}
	}
	for pid := range found {
		for i := range out {
			if parent(pid) == out[i].PID {
				out[i].Others++
			}
		}
	}
	slices.SortFunc(out, func(a, b Holder) int { return a.PID - b.PID })
	users := make(map[uint32]bool)
	for _, s := range sockets {
		if !seen[s.Inode] && !users[s.UID] {
			users[s.UID] = true
			out = append(out, Holder{Socket: s})
		}
	}
	return out
}

// eachDescriptor calls f with the target of each descriptor of each process that can be
// seen.
func eachDescriptor(deadline time.Time, f func(pid int, target string)) {
	for _, name := range names("/proc") {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		dir := "/proc/" + name + "/fd/"
		for i, fd := range names(dir) {
			if i%256 == 0 && time.Now().After(deadline) {
				return
			}
			if target, err := os.Readlink(dir + fd); err == nil {
				f(pid, target)
			}
		}
	}
}

func names(dir string) []string {
	f, err := os.Open(dir)
	if err != nil {
		return nil
	}
	defer f.Close()
	all, _ := f.Readdirnames(-1)
	return all
}

// parent returns the parent's PID, 0 if the process has ended.
func parent(pid int) int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// The command, field 2, is in brackets and may hold anything. The parent is field 4.
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < 2 {
		return 0
	}
	ppid, _ := strconv.Atoi(fields[1])
	return ppid
}

// Command returns a process's command line for messages: shortened, and with printable
// characters only, since the process can choose it.
func Command(pid int) string {
	f, err := os.Open(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return ""
	}
	defer f.Close()
	text := make([]byte, 120)
	n, _ := f.Read(text)
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return ' '
		}
		return r
	}, string(text[:n])))
}
