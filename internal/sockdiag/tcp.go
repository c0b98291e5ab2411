package sockdiag

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"
)

// State has a bit for each state of TCP sockets that is asked for, net/tcp_states.h.
type State uint32

const (
	SynRecv State = 1 << 3  // a handshake under way: TCP_SYN_RECV, which stands for TCP_NEW_SYN_RECV too
	Listen  State = 1 << 10 // TCP_LISTEN; also for Unix sockets
)

// Sizes and offsets in linux/inet_diag.h.
const (
	tcpRequestLen = 56 // struct inet_diag_req_v2
	tcpMessageLen = 72 // struct inet_diag_msg
	attrV6Only    = 11 // INET_DIAG_SKV6ONLY
	attrSockopt   = 22 // INET_DIAG_SOCKOPT
)

// Socket is one socket of the network namespace.
type Socket struct {
	Local, Remote netip.AddrPort // of TCP
	V6Only        bool           // IPV6_V6ONLY: an IPv6 socket that gets no IPv4 connection
	Interface     uint32         // to which it is bound; 0: any
	// Exclusive is the mark of a socket of this server that may not be shared
	// (IP_BIND_ADDRESS_NO_PORT); Linux before 5.10 doesn't tell.
	Exclusive bool

	Path     string // to which a Unix socket is bound
	Dev, Ino uint64 // of a Unix socket's file, the kernel's numbers: see Dev

	Inode  uint32 // of the socket itself, as in /proc/PID/fd; 0: no process has it
	UID    uint32 // the user who made it; older kernels don't report it for Unix sockets, then 0
	Cookie uint64 // SO_COOKIE
}

// TCP calls f for each TCP socket of a family (AF_INET, AF_INET6) with a local port (0: any) in one of the
// states. The kernel walks the table of its listening sockets for Listen, and that of all connections for
// any other: milliseconds on a busy machine.
func TCP(family uint8, states State, port uint16, f func(Socket)) error {
	req := make([]byte, tcpRequestLen)
	req[0], req[1] = family, unix.IPPROTO_TCP
	binary.NativeEndian.PutUint32(req[4:], uint32(states))
	binary.BigEndian.PutUint16(req[8:], port) // idiag_sport
	return dump(req, func(body []byte) error {
		s, err := parseTCP(body)
		if err == nil && (port == 0 || s.Local.Port() == port) {
			f(s)
		}
		return err
	})
}

// parseTCP reads a struct inet_diag_msg and the attributes after it.
func parseTCP(b []byte) (Socket, error) {
	if len(b) < tcpMessageLen {
		return Socket{}, errors.New("sock_diag: short answer")
	}
	addr := func(port, ip []byte) netip.AddrPort {
		a := netip.AddrFrom16([16]byte(ip))
		if b[0] == unix.AF_INET {
			a = netip.AddrFrom4([4]byte(ip))
		}
		return netip.AddrPortFrom(a, binary.BigEndian.Uint16(port))
	}
	s := Socket{
		Local:     addr(b[4:], b[8:24]),
		Remote:    addr(b[6:], b[24:40]),
		Interface: binary.NativeEndian.Uint32(b[40:]),
		Cookie:    cookie(b[44:]),
		UID:       binary.NativeEndian.Uint32(b[64:]),
		Inode:     binary.NativeEndian.Uint32(b[68:]),
	}
	err := eachAttribute(b[tcpMessageLen:], func(kind uint16, value []byte) {
		switch {
		case kind == attrV6Only && len(value) >= 1:
			s.V6Only = value[0] != 0
		case kind == attrSockopt && len(value) >= 2:
			s.Exclusive = value[1]&1 != 0 // bind_address_no_port of struct inet_diag_sockopt
		}
	})
	return s, err
}

// cookie reads a cookie, which is two words, the lower one first.
func cookie(b []byte) uint64 {
	return uint64(binary.NativeEndian.Uint32(b)) | uint64(binary.NativeEndian.Uint32(b[4:]))<<32
}
