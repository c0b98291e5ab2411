package eventloop

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls below never block, which is what makes RawSyscall sound: the scheduler need
// not be told. Those on connections say so themselves (MSG_DONTWAIT): O_NONBLOCK belongs to the
// open file description, and whoever gave the connection away may have kept a duplicate. The calls of
// package syscall are Go functions, where unix has a stub in assembly and a wrapper before them.

// read reads from a socket: recvfrom(2).
func read(fd int32, p []byte) (int, unix.Errno) {
	n, _, errno := syscall.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd),
		uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), unix.MSG_DONTWAIT, 0, 0)
	return int(n), errno
}

// write writes to a socket: sendto(2). MSG_NOSIGNAL spares the
// process a SIGPIPE for each peer that has gone.
func write(fd int32, p []byte, flags int) (int, unix.Errno) {
	n, _, errno := syscall.RawSyscall6(unix.SYS_SENDTO, uintptr(fd),
		uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), uintptr(flags|unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT), 0, 0)
	return int(n), errno
}

// gather writes two buffers in one call: sendmsg(2).
func (l *Loop) gather(fd int32, a, b []byte) (int, unix.Errno) {
	l.iov[0].Base, l.iov[1].Base = &a[0], &b[0]
	l.iov[0].SetLen(len(a))
	l.iov[1].SetLen(len(b))
	n, _, errno := syscall.RawSyscall(unix.SYS_SENDMSG, uintptr(fd),
		uintptr(unsafe.Pointer(&l.msg)), unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
	l.iov[0].Base, l.iov[1].Base = nil, nil
	return int(n), errno
}

// accept takes one connection from a listening socket's queue: accept4(2) with
// a nil address, which most connections never need.
func accept(fd int32) (int32, unix.Errno) {
	n, _, errno := syscall.RawSyscall6(unix.SYS_ACCEPT4, uintptr(fd), 0, 0,
		unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
	return int32(n), errno
}

// poll asks for events without waiting.
func (l *Loop) poll() (int, unix.Errno) {
	n, _, errno := syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(l.epfd),
		uintptr(unsafe.Pointer(&l.events[0])), uintptr(len(l.events)), 0, 0, 0)
	return int(n), errno
}

// closeSocket closes a socket, which never waits: none is set to linger for its peer.
func closeSocket(fd int32) { _, _, _ = syscall.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0) }

// control changes what the epoll instance watches: epoll_ctl(2).
func (l *Loop) control(op int, fd int32, events uint32, mark uint32) error {
	ev := unix.EpollEvent{Events: events, Fd: fd, Pad: int32(mark)}
	return unix.EpollCtl(int(l.epfd), op, int(fd), &ev)
}
