// Package shortage says what to do when the kernel refuses something because a resource is short: processes,
// descriptors, memory, room on a disk.
//
// It owns the texts. It recognizes an error by its errno, or by its text if it has come from
// another process. It must never decide anything.
package shortage

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"reuseportd/internal/cgroup"
)

// Explain adds to an error what is short and what to do about it. It returns other errors
// unchanged.
func Explain(err error) error {
	if err == nil {
		return nil
	}
	if hint := hintFor(err); hint != "" && !strings.Contains(err.Error(), hint) {
		return fmt.Errorf("%w: %s", err, hint)
	}
	return err
}

// kinds are in the order in which they are looked for, since the text of ENFILE begins with that of
// EMFILE.
var kinds = []struct {
	errno unix.Errno
	words []string // texts by which it is recognized; nil: that of errno
	hint  func(error) string
}{
	{unix.ENFILE, nil, func(error) string {
		return "the machine has no descriptors left: raise fs.file-max (sysctl), or look who holds them"
	}},
	{unix.EMFILE, nil, func(error) string {
		return fmt.Sprintf("a process of this service may have no more than %s descriptors: raise LimitNOFILE= of the unit, or `ulimit -n`",
			limit(unix.RLIMIT_NOFILE))
	}},
	{
		0,
		[]string{"failed to create new OS thread", "pthread_create failed", "fork: resource temporarily unavailable", "fork/exec: resource temporarily unavailable"},
		func(error) string {
			return "there may be no more processes and threads: " + more()
		},
	},
	{unix.ENOMEM, nil, func(error) string {
		return "memory is short: raise the limit of the control group (MemoryMax= of the unit), or free some"
	}},
	{unix.ENOSPC, nil, full},
	{unix.EDQUOT, nil, full},
}

func hintFor(err error) string {
	text := err.Error()
	for _, k := range kinds {
		words := k.words
		if words == nil {
			words = []string{k.errno.Error()}
		}
		for _, w := range words {
			if strings.Contains(text, w) {
				return k.hint(err)
			}
		}
	}
	return ""
}

// more says how to allow more processes and threads.
func more() string {
	text := "raise TasksMax= of the unit (pids.max of its control group), or RLIMIT_NPROC (LimitNPROC=, `ulimit -u`), which is " +
		limit(unix.RLIMIT_NPROC)
	if room, bounded := processes(); bounded {
		text += fmt.Sprintf("; the control group has room for %d", room)
	}
	return text
}

func processes() (room int64, bounded bool) {
	g, err := cgroup.FindPids(os.DirFS("/"))
	if err != nil {
		return 0, false
	}
	return g.Processes()
}

// startNeeds is about how many processes and threads a program of this service has when it starts, with some
// reserve.
const startNeeds = 40

// Ended is for the error of a program that ended, without saying why, with the exit status of a fatal error of
// the Go runtime. If there is room for few more threads it adds that the kernel may have refused one.
func Ended(err error) error {
	if err == nil || !strings.HasSuffix(err.Error(), "exit status 2") {
		return err
	}
	room, bounded := processes()
	if own, limited := ownRoom(); limited && (!bounded || own < room) {
		room, bounded = own, true
	}
	if !bounded || room > startNeeds {
		return fmt.Errorf("%w; what it said is in the standard error of this service", err)
	}
	return fmt.Errorf("%w; what it said is in the standard error of this service. There is room for %d processes and threads: %s", err, room, more())
}

// ownRoom returns how many more RLIMIT_NPROC allows to the user of this process, if it bounds that user.
func ownRoom() (int64, bool) {
	var l unix.Rlimit
	if os.Geteuid() == 0 || unix.Getrlimit(unix.RLIMIT_NPROC, &l) != nil || l.Cur > 1<<30 {
		return 0, false
	}
	room := int64(l.Cur)
	procs, err := os.ReadDir("/proc")
	if err != nil {
		return 0, false
	}
	uid := fmt.Sprintf("\nUid:\t%d\t", os.Getuid())
	for _, p := range procs {
		status, err := os.ReadFile("/proc/" + p.Name() + "/status")
		if err != nil || !strings.Contains(string(status), uid) {
			continue
		}
		tasks, _ := os.ReadDir("/proc/" + p.Name() + "/task")
		room -= int64(len(tasks))
	}
	return max(room, 0), true
}

func full(err error) string {
	var at *fs.PathError
	if errors.As(err, &at) {
		return "the file system of " + at.Path + " is full: free some room there"
	}
	return "the file system is full: free some room there"
}

// limit is a resource limit of this process in words: getrlimit(2).
func limit(resource int) string {
	var l unix.Rlimit
	switch err := unix.Getrlimit(resource, &l); {
	case err != nil:
		return "not known"
	case l.Cur == unix.RLIM_INFINITY:
		return "unlimited"
	}
	return fmt.Sprint(l.Cur)
}
