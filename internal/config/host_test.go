package config

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"reuseportd/internal/config/yaml"
)

// TestProbe asks this machine. 192.0.2.1 is for documentation (RFC 5737), so
// no machine has it.
func TestProbe(t *testing.T) {
	for _, s := range []string{"127.0.0.1", "127.1.2.3", "0.0.0.0"} {
		if err := probeIP(netip.MustParseAddr(s)); err != nil {
			t.Errorf("%s: %v", s, err)
		}
	}
	raw, _ := os.ReadFile("/proc/sys/net/ipv4/ip_nonlocal_bind")
	err := probeIP(netip.MustParseAddr("192.0.2.1"))
	if local := strings.TrimSpace(string(raw)) != "0"; local != (err == nil) || !local && !errors.Is(err, unix.EADDRNOTAVAIL) {
		t.Errorf("192.0.2.1: %v", err)
	}
	if err := probeIP(netip.MustParseAddr("fe80::1%no-such-if")); err == nil {
		t.Error("an interface that doesn't exist")
	}
}

func TestPlainUser(t *testing.T) {
	h := testHost()
	h.euid, h.lowPort = 1000, func() int { return 1024 }
	_, err := parseOn(h, "user: www\nlisteners: [{name: e, address: 127.0.0.1:80, echo: {}}]\n")
	var es Errors
	if !errors.As(err, &es) || len(es) != 2 {
		t.Fatal(err)
	}
	if !strings.Contains(es[0].Message, "only root") || !strings.Contains(es[1].Message, "port 80 is privileged") {
		t.Error(err)
	}
	var e Error
	if !errors.As(err, &e) || e.Line != 1 {
		t.Error("errors.As finds no Error")
	}
}

func TestCPUs(t *testing.T) {
	if n := autoWorkers(); n < 1 {
		t.Error(n)
	}
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "a/b"), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "a/cpu.max"), "150000 100000\n")
	write(t, filepath.Join(dir, "a/b/cpu.max"), "max 100000\n")
	for self, want := range map[string]float64{"0::/a/b\n": 1.5, "0::/\n": 0, "1:cpu:/a\n": 0, "": 0, "0::/../../a\n": 1.5} {
		if got := cpuQuota(dir, self); got != want {
			t.Errorf("%q: %v, want %v", self, got, want)
		}
	}
}

func TestNearest(t *testing.T) {
	keys := topLevel.keys()
	for s, want := range map[string]string{
		"worker": "workers", "wrokers": "workers", "Drain-Timeout": "drain_timeout", "draintimeout": "drain_timeout",
		"listener": "listeners", "usr": "user", "zzz": "", "": "", "tcp": "", strings.Repeat("x", 1000): "",
	} {
		if got := yaml.Nearest(s, keys); got != want {
			t.Errorf("%.20q: %q, want %q", s, got, want)
		}
	}
}
