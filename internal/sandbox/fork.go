package sandbox

import (
	"syscall"
	_ "unsafe" // for go:linkname

	"golang.org/x/sys/unix"
)

// The runtime's part of a fork, as in package syscall: signals are blocked around it, and handlers are
// reset in the child.

//go:linkname beforeFork syscall.runtime_BeforeFork
func beforeFork()

//go:linkname afterFork syscall.runtime_AfterFork
func afterFork()

//go:linkname afterForkInChild syscall.runtime_AfterForkInChild
func afterForkInChild()

// fork makes a child that makes the calls, and returns when the child has executed a program or has ended (CLONE_VFORK); the
// caller then calls afterFork. The child runs in this frame, in the caller's memory, so nothing may be done between the two
// returns of vfork and the return of this function.
//
//go:noinline
//go:norace
//go:nocheckptr
func fork(calls []call, told *verdict, pidfd *int32) (int, syscall.Errno) {
	beforeFork()
	if pid, errno := vfork(forkFlags, pidfd); errno != 0 || pid != 0 {
		return pid, errno
	}
	afterForkInChild()
	var errno syscall.Errno
	skipping := false
	for i := range calls {
		c := &calls[i]
		if skipping && c.onError == skip {
			continue
		}
		_, _, errno = syscall.RawSyscall6(c.nr, c.args[0], c.args[1], c.args[2], 0, 0, 0)
		switch {
		case errno == 0:
		case c.onError == skip:
			skipping = true
			if errno != syscall.EINVAL || i == 0 {
				told.noted, told.why = uint64(i)+1, errno
			}
		default:
			told.failed, told.errno = uint64(i)+1, errno
			for {
				_, _, _ = syscall.RawSyscall6(unix.SYS_EXIT_GROUP, 253, 0, 0, 0, 0, 0)
			}
		}
	}
	for { // exec doesn't return
		_, _, _ = syscall.RawSyscall6(unix.SYS_EXIT_GROUP, 253, 0, 0, 0, 0, 0)
	}
}
