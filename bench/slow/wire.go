package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// Loopback has segments of 64 KiB, of which the kernel lets ten lie in a socket: a client that doesn't read costs
// 1.4 MiB there, and four thousand of them all that the machine has for TCP (tcp_mem). The kernel then resets
// whoever closes first, which says nothing of a server. So all of it happens in a network of its own, with
// segments as on a wire.

// inside is set in the environment of the process that is in that network.
const inside = "PROVE_SLOW_INSIDE"

// mtu is Ethernet's, in bytes.
const mtu = 1500

// enter runs this program once more in a network of its own, and reports whether it did. Only root can;
// other users stay on the machine's loopback.
func enter(ctx context.Context) (bool, error) {
	switch {
	case os.Getenv(inside) != "":
		return false, setLoopback()
	case os.Geteuid() != 0:
		fmt.Fprintln(os.Stderr, "prove-slow: not root, so on the machine's own loopback, where slow readers may use up all memory for TCP")
		return false, nil
	}
	cmd := exec.CommandContext(ctx, "/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Setpgid: true, Pdeathsig: syscall.SIGTERM}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) } // it has servers to end
	return true, cmd.Run()
}

// setLoopback sets the namespace's loopback up, netdevice(7).
func setLoopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("set the loopback interface up: %w", err)
	}
	defer unix.Close(fd)
	r, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	r.SetUint32(mtu)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFMTU, r); err != nil {
		return fmt.Errorf("set the MTU of the loopback interface: %w", err)
	}
	r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, r); err != nil {
		return fmt.Errorf("set the loopback interface up: %w", err)
	}
	return nil
}

// starved returns how many connections this network's kernel has reset for want of memory.
func starved() (int, error) {
	b, err := os.ReadFile("/proc/net/netstat")
	if err != nil {
		return 0, err
	}
	return readStarved(b)
}

// readStarved finds TcpExt's TCPAbortOnMemory: a line of names, then one of their values.
func readStarved(b []byte) (int, error) {
	var names [][]byte
	for line := range bytes.Lines(b) {
		fields := bytes.Fields(line)
		if len(fields) == 0 || string(fields[0]) != "TcpExt:" {
			continue
		}
		if names == nil {
			names = fields
			continue
		}
		for i, name := range names {
			if string(name) == "TCPAbortOnMemory" && i < len(fields) {
				return strconv.Atoi(string(fields[i]))
			}
		}
	}
	return 0, errors.New("/proc/net/netstat has no TCPAbortOnMemory")
}
