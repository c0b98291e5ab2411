package harness

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// Socket is a TCP socket that a process holds, or that is closing with data to
// send.
type Socket struct {
	Local, Remote netip.AddrPort
	Listening     bool
	Inode         uint32 // 0: no process holds it
}

// BoundSockets are the sockets with one of ports as their local one that a
// process holds. The kernel is asked by sock_diag(7): /proc/net/tcp has a line
// for each connection in TIME_WAIT, and takes a second after a load test.
func BoundSockets(ports map[int]bool) ([]Socket, error) {
	var found []Socket
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		all, err := dumpSockets(family)
		if err != nil {
			return nil, fmt.Errorf("ask for the sockets of this machine: %w", err)
		}
		for _, s := range all {
			if s.Inode != 0 && ports[int(s.Local.Port())] {
				found = append(found, s)
			}
		}
	}
	return found, nil
}

// Sizes and offsets of struct inet_diag_req_v2 and struct inet_diag_msg
// (linux/inet_diag.h).
const (
	diagRequest = 56
	diagMessage = 72
	tcpListen   = 10
	tcpTimeWait = 6
)

func dumpSockets(family uint8) ([]Socket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	req := make([]byte, unix.SizeofNlMsghdr+diagRequest)
	binary.NativeEndian.PutUint32(req[0:], uint32(len(req)))
	binary.NativeEndian.PutUint16(req[4:], unix.SOCK_DIAG_BY_FAMILY)
	binary.NativeEndian.PutUint16(req[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	body := req[unix.SizeofNlMsghdr:]
	body[0], body[1] = family, unix.IPPROTO_TCP
	binary.NativeEndian.PutUint32(body[4:], ^uint32(1<<tcpTimeWait)) // states
	if err := unix.Sendto(fd, req, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, err
	}
	var found []Socket
	buf := make([]byte, 64<<10)
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err != nil {
			return nil, err
		}
		msgs, err := syscall.ParseNetlinkMessage(buf[:n])
		if err != nil {
			return nil, err
		}
		for _, m := range msgs {
			switch m.Header.Type {
			case unix.NLMSG_DONE:
				return found, nil
			case unix.NLMSG_ERROR:
				return nil, fmt.Errorf("netlink error %d", int32(binary.NativeEndian.Uint32(m.Data)))
			}
			if len(m.Data) >= diagMessage {
				found = append(found, parseSocket(m.Data))
			}
		}
	}
}

func parseSocket(b []byte) Socket {
	addr := func(port, ip []byte) netip.AddrPort {
		a := netip.AddrFrom16([16]byte(ip[:16]))
		if b[0] == unix.AF_INET {
			a = netip.AddrFrom4([4]byte(ip[:4]))
		}
		return netip.AddrPortFrom(a, binary.BigEndian.Uint16(port))
	}
	return Socket{
		Local:     addr(b[4:], b[8:]),
		Remote:    addr(b[6:], b[24:]),
		Listening: b[1] == tcpListen,
		Inode:     binary.NativeEndian.Uint32(b[68:]),
	}
}
