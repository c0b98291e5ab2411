package sdnotify

import (
	"os"
	"strconv"
	"testing"
	"time"
)

func TestWatchdog(t *testing.T) {
	mine := strconv.Itoa(os.Getpid())
	for _, tt := range []struct {
		usec, pid string
		want      time.Duration
	}{
		{"", "", 0},
		{"3000000", "", time.Second},
		{"3000000", mine, time.Second},
		{"3000000", "1", 0}, // another process's duty
		{"-1", mine, 0},
		{"0", mine, 0},
		{"99999999999999999999", mine, 0},
		{"9223372036854775807", mine, 0},
		{"soon", mine, 0},
	} {
		t.Setenv("WATCHDOG_USEC", tt.usec)
		t.Setenv("WATCHDOG_PID", tt.pid)
		ClaimWatchdog()
		if got := AliveEvery(); got != tt.want {
			t.Errorf("WATCHDOG_USEC %q, WATCHDOG_PID %q: each %v, want %v", tt.usec, tt.pid, got, tt.want)
		}
		if _, set := os.LookupEnv("WATCHDOG_PID"); set {
			t.Error("WATCHDOG_PID is left, which would tell the next master that it isn't meant")
		}
	}
}
