package harness

import (
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
)

var ports struct {
	sync.Mutex
	next int
}

// Port returns a TCP port that nobody uses on any address of this machine, and
// that nobody gets by chance until the test ends: it lies below the ephemeral
// range, so no client's connect takes it, and an abstract Unix socket keeps
// other test processes from choosing it too.
func Port(t testing.TB) int {
	t.Helper()
	ports.Lock()
	defer ports.Unlock()
	const low = 12000
	high := ephemeral() - 1
	if ports.next == 0 {
		// Test processes that run at the same time begin apart.
		ports.next = low + os.Getpid()*97%(high-low)
	}
	for range high - low {
		ports.next++
		if ports.next >= high {
			ports.next = low
		}
		lock, err := net.Listen("unix", fmt.Sprintf("@reuseportd-test-port-%d", ports.next))
		if err != nil {
			continue
		}
		if !unused(ports.next) {
			lock.Close()
			continue
		}
		t.Cleanup(func() { lock.Close() })
		return ports.next
	}
	t.Fatal("no free port")
	return 0
}

// unused binds the port on every address, without SO_REUSEPORT, and lets go.
func unused(port int) bool {
	for _, network := range []string{"tcp4", "tcp6"} {
		l, err := net.Listen(network, fmt.Sprintf(":%d", port))
		if err != nil {
			return false
		}
		l.Close()
	}
	return true
}

// ephemeral is the first port that the kernel gives to connects.
func ephemeral() int {
	low, high := 32768, 60999
	if data, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range"); err == nil {
		// When it can't be read or understood, the kernel's default is a good guess.
		_, _ = fmt.Sscan(strings.TrimSpace(string(data)), &low, &high)
	}
	return max(low, 14000)
}
