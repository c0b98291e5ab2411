package rig

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Machine describes the machine on which the numbers were measured.
func Machine() string {
	cpus := "1 CPU"
	if n := runtime.NumCPU(); n > 1 {
		cpus = fmt.Sprintf("%d CPUs", n)
	}
	return fmt.Sprintf("%s (%s), %s, %s", cpus, cpuModel(), kernel(), runtime.Version())
}

// kernel returns what `uname -sr` prints; a small container may not have uname(1).
func kernel() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return err.Error()
	}
	return unix.ByteSliceToString(u.Sysname[:]) + " " + unix.ByteSliceToString(u.Release[:])
}

func cpuModel() string {
	data, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(data)) {
		if name, ok := strings.CutPrefix(line, "model name"); ok {
			return strings.TrimLeft(strings.TrimSpace(name), ": \t")
		}
	}
	return runtime.GOARCH
}

// FirstLine returns the first line that a command prints, or why there is none.
func FirstLine(cmd *exec.Cmd) string {
	out, err := cmd.CombinedOutput()
	if err != nil {
		return err.Error()
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return line
}

// RaiseLimit raises the descriptor limit to the hard limit and returns it.
func RaiseLimit() uint64 {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return 0
	}
	l.Cur = l.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return 0
	}
	return l.Cur
}

// given are the ports that FreePort has returned. They may not be bound yet, and servers
// with SO_REUSEPORT would not notice that they share one.
var given sync.Map

// FreePort returns a free port below the ephemeral ports, which the load's connects use
// up. It never returns a port twice.
func FreePort() (int, error) {
	for range 200 {
		port := 20000 + int(time.Now().UnixNano()/1000)%10000
		if _, taken := given.LoadOrStore(port, true); taken {
			continue
		}
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			return port, l.Close()
		}
	}
	return 0, fmt.Errorf("no free port from 20000 to 29999")
}

// FreeAddress returns 127.0.0.1 with a FreePort.
func FreeAddress() (string, error) {
	port, err := FreePort()
	return fmt.Sprintf("127.0.0.1:%d", port), err
}

// Sleep waits for d. It returns early, with ctx's error, if ctx ends.
func Sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
