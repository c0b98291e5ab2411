package sandbox

import (
	"fmt"
	"os"
	"runtime"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"reuseportd/internal/failpoint"
)

// Program is what Start executes.
type Program struct {
	Path string
	Argv []string
	Env  []string
	// Files become the child's descriptors 0, 1, 2 …
	Files []uintptr
}

// Start executes a program in a process of its own (and a process group of its own), confined before the program
// begins. The note says which restrictions the kernel doesn't support, "" if none. It is an error only if the
// process would be less confined than any release has left it. All errors wrap an Errno.
//
// What belongs to a thread (capabilities, no_new_privs, Landlock) is set by the child itself, between fork and exec, so
// it costs the caller no thread. A thread that set these for itself would have to end, and the Go runtime would need a
// new one, and end the process if the kernel refused it. The child makes system calls from a list that was prepared
// before, and nothing else: it is a single thread of a Go program that has many, and may share that program's memory
// (vfork.go), so it must not allocate, grow its stack, or wait for a lock.
func (c *Confinement) Start(p Program) (pid, pidfd int, note string, err error) {
	note, capabilities := c.capabilities()
	run, err := c.sequence(p, capabilities)
	if bad := failpoint.Hit("fork"); bad != nil {
		err = fmt.Errorf("fork: %w", bad)
	}
	if err != nil {
		return 0, -1, note, err
	}
	starting.Lock()
	defer starting.Unlock()
	if starting.told == nil {
		page, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS)
		if err != nil {
			return 0, -1, note, fmt.Errorf("share memory with the process: %w", err)
		}
		starting.told = (*verdict)(unsafe.Pointer(&page[0]))
	}
	*starting.told = verdict{}
	fd := int32(-1)
	syscall.ForkLock.Lock()
	child, errno := fork(run.calls, starting.told, &fd)
	afterFork()
	syscall.ForkLock.Unlock()
	runtime.KeepAlive(run)
	if errno != 0 {
		return 0, -1, note, fmt.Errorf("fork: %w", errno)
	}
	told := *starting.told
	if told.noted != 0 {
		note = fmt.Sprintf("the bounding set is kept: %s: %v", run.calls[told.noted-1].what, told.why)
	}
	if told.failed != 0 {
		_, _ = unix.Wait4(child, nil, 0, nil)
		_ = unix.Close(int(fd))
		return 0, -1, note, fmt.Errorf("%s: %w", run.calls[told.failed-1].what, told.errno)
	}
	return child, int(fd), note, nil
}

// starting is the page in which a child reports. It is mapped as shared memory, since where fork copies memory
// nothing else is shared.
var starting struct {
	sync.Mutex
	told *verdict
}

// verdict is what the child reports: numbers of calls, from 1.
type verdict struct {
	failed, noted uint64
	errno, why    syscall.Errno
}

// call is one system call of the child.
type call struct {
	what string
	nr   uintptr
	args [3]uintptr
	// onError says what a failure leads to.
	onError onError
}

type onError uint8

const (
	fail onError = iota
	// skip continues after the calls that may be skipped, and records why. EINVAL from a later call than
	// the first isn't recorded: it means that the kernel knows no more of them.
	skip
)

// sequence is a list of calls, with the memory that they point to.
type sequence struct {
	calls []call
	keep  []any
}

func (s *sequence) add(what string, then onError, nr uintptr, args ...uintptr) {
	c := call{what: what, nr: nr, onError: then}
	copy(c.args[:], args)
	s.calls = append(s.calls, c)
}

// pointer returns the address of v, which s keeps alive and in place.
func pointer[T any](s *sequence, v *T) uintptr {
	s.keep = append(s.keep, v)
	return uintptr(unsafe.Pointer(v))
}

// sequence returns all that the child does, in an order in which each step is still permitted.
func (c *Confinement) sequence(p Program, capabilities *sequence) (*sequence, error) {
	s := capabilities
	s.add("make a process group", fail, unix.SYS_SETPGID)
	s.add("set no_new_privs", fail, unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1)
	if c.Rules != nil {
		s.add("restrict to what a worker needs (Landlock)", fail, unix.SYS_LANDLOCK_RESTRICT_SELF, uintptr(c.Rules.fd))
	}
	if c.User != nil {
		groups := append(make([]uint32, 0, len(c.User.Groups)+1), c.User.Groups...)
		s.keep = append(s.keep, groups)
		s.add("setgroups", fail, unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(unsafe.Pointer(unsafe.SliceData(groups))))
		s.add("setgid", fail, unix.SYS_SETGID, uintptr(c.User.GID))
		s.add("setuid", fail, unix.SYS_SETUID, 0) // the program becomes the user itself, by Enter
	}
	s.files(p.Files)
	path, err := syscall.BytePtrFromString(p.Path)
	if err != nil {
		return nil, err
	}
	argv, err := syscall.SlicePtrFromStrings(p.Argv)
	if err != nil {
		return nil, err
	}
	env, err := syscall.SlicePtrFromStrings(p.Env)
	if err != nil {
		return nil, err
	}
	s.keep = append(s.keep, argv, env)
	s.add("exec "+p.Path, fail, unix.SYS_EXECVE, pointer(s, path),
		uintptr(unsafe.Pointer(unsafe.SliceData(argv))), uintptr(unsafe.Pointer(unsafe.SliceData(env))))
	return s, nil
}

// files puts descriptors in their places. Those that are in the place of another one are moved out of the
// way first.
func (s *sequence) files(files []uintptr) {
	free := uintptr(len(files))
	for _, fd := range files {
		free = max(free, fd+1)
	}
	from := make([]uintptr, len(files))
	for i, fd := range files {
		if from[i] = fd; fd < uintptr(len(files)) && fd != uintptr(i) {
			s.add("duplicate a descriptor", fail, unix.SYS_DUP3, fd, free, unix.O_CLOEXEC)
			from[i] = free
			free++
		}
	}
	for i, fd := range from {
		if fd == uintptr(i) {
			s.add("keep a descriptor open", fail, unix.SYS_FCNTL, fd, unix.F_SETFD, 0)
		} else {
			s.add("put a descriptor in its place", fail, unix.SYS_DUP3, fd, uintptr(i), 0)
		}
	}
}
