//go:build failpoint

package failpoint

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// attempt does what an attacker would do.
func attempt(text string) error {
	what, arg, _ := strings.Cut(text, " ")
	number, _ := strconv.Atoi(arg)
	switch what {
	case "open":
		f, err := os.Open(arg)
		if err == nil {
			return f.Close()
		}
		return err
	case "create":
		f, err := os.Create(arg)
		if err == nil {
			return f.Close()
		}
		return err
	case "exec":
		return syscall.Exec(arg, []string{arg}, nil)
	case "connect":
		network, address, _ := strings.Cut(arg, ":")
		c, err := net.Dial(network, address)
		if err == nil {
			return c.Close()
		}
		return err
	case "bind": // to a port of 127.0.0.1
		return withSocket(func(fd int) error {
			return syscall.Bind(fd, &syscall.SockaddrInet4{Port: number, Addr: [4]byte{127, 0, 0, 1}})
		})
	case "signal":
		return syscall.Kill(number, 0)
	case "own": // makes a process the receiver of a socket's signals
		return withSocket(func(fd int) error {
			_, _, errno := syscall.RawSyscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_SETOWN, uintptr(number))
			if errno != 0 {
				return errno
			}
			return nil
		})
	case "option": // of SOL_SOCKET
		return withSocket(func(fd int) error { return syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, number, 0) })
	case "socket":
		fd, err := syscall.Socket(number, syscall.SOCK_RAW, 0)
		if err == nil {
			return syscall.Close(fd)
		}
		return err
	case "call":
		_, _, errno := syscall.RawSyscall6(uintptr(number), 0, 0, 0, 0, 0, 0)
		if errno != 0 {
			return errno
		}
		return nil
	}
	return fmt.Errorf("unknown attempt %q", what)
}

// withSocket calls f with a TCP socket.
func withSocket(f func(fd int) error) error {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	return f(fd)
}

// outcome is an error in words, `done` for none.
func outcome(err error) string {
	if err == nil {
		return "done"
	}
	return err.Error()
}
