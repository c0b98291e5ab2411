//go:build amd64 || arm64

package sandbox

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// forkFlags have the child use the caller's memory, which is suspended until it executes: to copy the page tables of a
// master takes longer than all else of a start.
const forkFlags = uintptr(syscall.SIGCHLD) | unix.CLONE_VM | unix.CLONE_VFORK | unix.CLONE_PIDFD

// vfork is clone(2) without a stack for the child, in assembly: both return from it, one after the other.
//
//go:noescape
func vfork(flags uintptr, pidfd *int32) (pid int, errno syscall.Errno)
