//go:build amd64 || arm64

package sandbox

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// forkFlags make the child use the memory of the caller, which is suspended until the child executes. Copying the page
// tables of a master would take longer than all the rest of a start.
const forkFlags = uintptr(syscall.SIGCHLD) | unix.CLONE_VM | unix.CLONE_VFORK | unix.CLONE_PIDFD

// vfork is clone(2) without a stack of its own for the child, in assembly: both return from it, one after
// the other.
//
//go:noescape
func vfork(flags uintptr, pidfd *int32) (pid int, errno syscall.Errno)
