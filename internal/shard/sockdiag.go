package shard

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// What sock_diag(7) and linux/inet_diag.h call these.
const (
	sockDiagByFamily = 20
	tcpSynRecv       = 3  // TCP_SYN_RECV, which stands for TCP_NEW_SYN_RECV too
	diagReqLen       = 56 // struct inet_diag_req_v2
	diagIDOffset     = 4  // of struct inet_diag_sockid in struct inet_diag_msg
	diagIDLen        = 48
)

// dumpHalfOpen calls f for every handshake of the network namespace with that
// local port.
func dumpHalfOpen(family uint8, port uint16, f func(pair)) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return fmt.Errorf("netlink socket: %w", err)
	}
	defer unix.Close(fd)
	// The kernel answers within the call; the bound is for what can't happen.
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1}); err != nil {
		return fmt.Errorf("setsockopt SO_RCVTIMEO: %w", err)
	}
	if err := unix.Sendto(fd, diagRequest(family, port), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("sock_diag: send: %w", err)
	}
	buf := make([]byte, 64<<10)
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("sock_diag: receive: %w", err)
		}
		done, err := eachDiag(buf[:n], family, f)
		if done || err != nil {
			return err
		}
	}
}

// diagRequest is a struct nlmsghdr and a struct inet_diag_req_v2.
func diagRequest(family uint8, port uint16) []byte {
	b := make([]byte, unix.SizeofNlMsghdr+diagReqLen)
	binary.NativeEndian.PutUint32(b[0:], uint32(len(b)))
	binary.NativeEndian.PutUint16(b[4:], sockDiagByFamily)
	binary.NativeEndian.PutUint16(b[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	req := b[unix.SizeofNlMsghdr:]
	req[0], req[1] = family, unix.IPPROTO_TCP
	binary.NativeEndian.PutUint32(req[4:], 1<<tcpSynRecv)
	binary.BigEndian.PutUint16(req[8:], port) // idiag_sport
	return b
}

// eachDiag reads one datagram of netlink messages and says whether it had the
// last one.
func eachDiag(b []byte, family uint8, f func(pair)) (done bool, err error) {
	for len(b) >= unix.SizeofNlMsghdr {
		size := int(binary.NativeEndian.Uint32(b))
		if size < unix.SizeofNlMsghdr || size > len(b) {
			return true, fmt.Errorf("sock_diag: message of %d bytes in %d", size, len(b))
		}
		body := b[unix.SizeofNlMsghdr:size]
		switch binary.NativeEndian.Uint16(b[4:]) {
		case unix.NLMSG_DONE:
			return true, nil
		case unix.NLMSG_ERROR:
			if len(body) < 4 {
				return true, errors.New("sock_diag: short error message")
			}
			return true, fmt.Errorf("sock_diag: %w", unix.Errno(-int32(binary.NativeEndian.Uint32(body))))
		case sockDiagByFamily:
			if len(body) < diagIDOffset+diagIDLen {
				return true, errors.New("sock_diag: short answer")
			}
			f(diagPair(body[diagIDOffset:], family))
		}
		b = b[min((size+3)&^3, len(b)):]
	}
	return false, nil
}

// diagPair reads a struct inet_diag_sockid.
func diagPair(b []byte, family uint8) pair {
	addr := func(b []byte) netip.Addr {
		if family == unix.AF_INET {
			return netip.AddrFrom4([4]byte(b))
		}
		return netip.AddrFrom16([16]byte(b))
	}
	return pair{
		local:  netip.AddrPortFrom(addr(b[4:]), binary.BigEndian.Uint16(b[0:])),
		remote: netip.AddrPortFrom(addr(b[20:]), binary.BigEndian.Uint16(b[2:])),
	}
}
