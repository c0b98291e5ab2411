package eventloop

import (
	"fmt"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Address is where a connection can go to, as connect(2) takes it. It is made once
// and read by any number of loops.
type Address struct {
	raw  unix.RawSockaddrAny
	size uint32
	text string
}

// AddressOf makes the address of a TCP port. An IPv4 address that is mapped into
// IPv6 is an IPv4 address; a zone must be an interface's number.
func AddressOf(a netip.AddrPort) Address {
	out := Address{text: a.String()}
	ip := a.Addr().Unmap()
	if ip.Is4() {
		sa := (*unix.RawSockaddrInet4)(unsafe.Pointer(&out.raw))
		sa.Family, sa.Addr = unix.AF_INET, ip.As4()
		setPort(&sa.Port, a.Port())
		out.size = unix.SizeofSockaddrInet4
		return out
	}
	sa := (*unix.RawSockaddrInet6)(unsafe.Pointer(&out.raw))
	sa.Family, sa.Addr = unix.AF_INET6, ip.As16()
	setPort(&sa.Port, a.Port())
	for _, d := range ip.Zone() {
		sa.Scope_id = sa.Scope_id*10 + uint32(d-'0')
	}
	out.size = unix.SizeofSockaddrInet6
	return out
}

// UnixAddress makes the address of a Unix socket.
func UnixAddress(path string) (Address, error) {
	out := Address{text: "unix:" + path}
	sa := (*unix.RawSockaddrUnix)(unsafe.Pointer(&out.raw))
	if len(path) == 0 || len(path) >= len(sa.Path) {
		return Address{}, fmt.Errorf("unix socket %q: a path has 1 to %d bytes", path, len(sa.Path)-1)
	}
	sa.Family = unix.AF_UNIX
	for i := range len(path) {
		sa.Path[i] = int8(path[i])
	}
	out.size = uint32(unsafe.Offsetof(sa.Path)) + uint32(len(path)) + 1
	return out, nil
}

// String returns the address as a configuration has it.
func (a *Address) String() string { return a.text }

func (a *Address) family() int { return int(a.raw.Addr.Family) }

// setPort writes a port in network byte order.
func setPort(to *uint16, port uint16) {
	b := (*[2]byte)(unsafe.Pointer(to))
	b[0], b[1] = byte(port>>8), byte(port)
}
