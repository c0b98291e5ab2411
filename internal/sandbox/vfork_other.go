//go:build !amd64 && !arm64

package sandbox

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// forkFlags leave the child a copy of the caller's memory.
const forkFlags = uintptr(syscall.SIGCHLD) | unix.CLONE_VFORK | unix.CLONE_PIDFD

//go:norace
//go:nocheckptr
func vfork(flags uintptr, pidfd *int32) (pid int, errno syscall.Errno) {
	r, _, errno := syscall.RawSyscall6(unix.SYS_CLONE, flags, 0, uintptr(unsafe.Pointer(pidfd)), 0, 0, 0)
	return int(r), errno
}
