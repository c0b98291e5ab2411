package eventloop

import (
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Local asks the kernel for the connection's own address, which is the one that the
// client connected to; it is the zero AddrPort for a Unix socket. getsockname(2).
func (c *Conn) Local() netip.AddrPort { return c.svc.loop.name(c.fd, unix.SYS_GETSOCKNAME) }

// Remote asks the kernel for the peer's address; it is the zero AddrPort for a
// Unix socket or a peer that has gone. getpeername(2).
func (c *Conn) Remote() netip.AddrPort { return c.svc.loop.name(c.fd, unix.SYS_GETPEERNAME) }

func (l *Loop) name(fd int32, call uintptr) netip.AddrPort {
	size := uint32(unix.SizeofSockaddrAny)
	_, _, errno := unix.RawSyscall(call, uintptr(fd),
		uintptr(unsafe.Pointer(&l.peer)), uintptr(unsafe.Pointer(&size)))
	if errno != 0 {
		return netip.AddrPort{}
	}
	switch l.peer.Addr.Family {
	case unix.AF_INET:
		sa := (*unix.RawSockaddrInet4)(unsafe.Pointer(&l.peer))
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), networkOrder(&sa.Port))
	case unix.AF_INET6:
		sa := (*unix.RawSockaddrInet6)(unsafe.Pointer(&l.peer))
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), networkOrder(&sa.Port))
	}
	return netip.AddrPort{}
}

// networkOrder reads a port, which the kernel gives in network byte order.
func networkOrder(port *uint16) uint16 {
	b := (*[2]byte)(unsafe.Pointer(port))
	return uint16(b[0])<<8 | uint16(b[1])
}

// Unsent returns how many bytes have been queued and are not with the peer's kernel yet:
// here, or in the socket, where those count that wait for an acknowledgement.
// SIOCOUTQ, tcp(7).
func (c *Conn) Unsent() int64 {
	if !c.has(open) {
		return 0
	}
	var n int64
	if c.out != nil {
		n = c.out.pending()
	}
	if k, err := unix.IoctlGetInt(int(c.fd), unix.SIOCOUTQ); err == nil {
		n += int64(k)
	}
	return n
}

// ResetOnClose has the peer see that what it got is not all, whenever and however the
// connection is closed: with RST. What is on its way then is lost. Inside Closed it is
// not too late. It does nothing for a Unix socket, nor for a connection that
// may be another process's by now.
func (c *Conn) ResetOnClose() {
	if !c.has(away) {
		_ = unix.SetsockoptLinger(int(c.fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	}
}

// AckNow has the kernel acknowledge what has come, if it has put that off: TCP_QUICKACK, tcp(7). It means nothing to a
// Unix socket.
func (c *Conn) AckNow() { _ = unix.SetsockoptInt(int(c.fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1) }
