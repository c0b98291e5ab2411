// Package sockdiag finds out which sockets there are in this network namespace, by
// sock_diag(7), and which processes have them, by /proc.
//
// It owns the netlink messages, and checks each length in them. It must never wait: the
// kernel answers within the call, and a walk through /proc is limited in time.
package sockdiag

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// sockDiagByFamily is SOCK_DIAG_BY_FAMILY, linux/sock_diag.h.
const sockDiagByFamily = 20

const (
	// patience bounds one request. The kernel answers at once, so this is only a safeguard.
	patience = time.Second
	// maxSockets bounds the number of sockets in an answer.
	maxSockets = 1 << 20
)

// dump sends a request, given without its struct nlmsghdr, and calls f with the body of each
// answer.
func dump(request []byte, f func(body []byte) error) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return fmt.Errorf("netlink socket: %w", err)
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: int64(patience / time.Second)}); err != nil {
		return fmt.Errorf("setsockopt SO_RCVTIMEO: %w", err)
	}
	if err := unix.Sendto(fd, message(request), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("sock_diag: send: %w", err)
	}
	buf := make([]byte, 64<<10)
	for left := maxSockets; ; {
		n, from, err := unix.Recvfrom(fd, buf, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("sock_diag: receive: %w", err)
		}
		if sa, ok := from.(*unix.SockaddrNetlink); !ok || sa.Pid != 0 {
			continue // not from the kernel, whose PID is 0
		}
		done, err := each(buf[:n], func(body []byte) error {
			if left--; left < 0 {
				return fmt.Errorf("sock_diag: more than %d sockets", maxSockets)
			}
			return f(body)
		})
		if done || err != nil {
			return err
		}
	}
}

// message puts a struct nlmsghdr in front of a request.
func message(request []byte) []byte {
	b := make([]byte, unix.SizeofNlMsghdr, unix.SizeofNlMsghdr+len(request))
	binary.NativeEndian.PutUint32(b[0:], uint32(cap(b)))
	binary.NativeEndian.PutUint16(b[4:], sockDiagByFamily)
	binary.NativeEndian.PutUint16(b[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	return append(b, request...)
}

// each reads one datagram of netlink messages, and reports whether it contained the last
// one.
func each(b []byte, f func(body []byte) error) (done bool, err error) {
	for len(b) >= unix.SizeofNlMsghdr {
		size := int(binary.NativeEndian.Uint32(b))
		if size < unix.SizeofNlMsghdr || size > len(b) {
			return true, fmt.Errorf("sock_diag: message of %d bytes in %d", size, len(b))
		}
		body := b[unix.SizeofNlMsghdr:size]
		switch binary.NativeEndian.Uint16(b[4:]) {
		case unix.NLMSG_DONE:
			// Its body is an error number if the kernel's last step failed.
			if len(body) >= 4 {
				return true, kernelError(body)
			}
			return true, nil
		case unix.NLMSG_ERROR:
			if len(body) < 4 {
				return true, errors.New("sock_diag: short error message")
			}
			return true, kernelError(body)
		case sockDiagByFamily:
			if err := f(body); err != nil {
				return true, err
			}
		}
		b = b[min((size+3)&^3, len(b)):]
	}
	return false, nil
}

// kernelError reads a negative error number. ENOENT means that the kernel has no module for the
// request.
func kernelError(body []byte) error {
	n := int32(binary.NativeEndian.Uint32(body))
	switch {
	case n >= 0:
		return nil
	case unix.Errno(-n) == unix.ENOENT:
		return fmt.Errorf("sock_diag: %w (this kernel has no inet_diag or unix_diag module)", unix.ENOENT)
	}
	return fmt.Errorf("sock_diag: %w", unix.Errno(-n))
}

// eachAttribute calls f for each struct nlattr that follows a message.
func eachAttribute(b []byte, f func(kind uint16, value []byte)) error {
	const header = 4
	for len(b) >= header {
		size := int(binary.NativeEndian.Uint16(b))
		if size < header || size > len(b) {
			return fmt.Errorf("sock_diag: attribute of %d bytes in %d", size, len(b))
		}
		f(binary.NativeEndian.Uint16(b[2:]), b[header:size])
		b = b[min((size+3)&^3, len(b)):]
	}
	return nil
}
