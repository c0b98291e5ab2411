package eventloop

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Silent reports whether the peer has sent nothing that wasn't consumed, not even its end:
// recv(2) with MSG_PEEK. What is on the way can't be known. Of a connection that is not plain any byte counts, also
// one that the transport has to itself.
func (c *Conn) Silent() bool {
	if c.has(sealed) && c.svc.loop.sealOf(c).held() {
		return false
	}
	var b [1]byte
	_, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(c.fd), uintptr(unsafe.Pointer(&b)), 1,
		unix.MSG_PEEK|unix.MSG_DONTWAIT, 0, 0)
	return errno == unix.EAGAIN && !c.has(eof) && len(c.in) == 0
}

// HasInput reports whether input was read that the handler has not consumed.
func (c *Conn) HasInput() bool {
	return len(c.in) > 0 || c.has(sealed) && c.svc.loop.sealOf(c).held()
}

// HasOutput reports whether output waits here. Unlike Unsent it asks nobody.
func (c *Conn) HasOutput() bool { return c.out != nil }
