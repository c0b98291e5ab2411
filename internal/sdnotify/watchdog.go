package sdnotify

import (
	"os"
	"strconv"
	"time"
)

// Environment variables of sd_watchdog_enabled(3).
const (
	watchdogUsec = "WATCHDOG_USEC"
	watchdogPID  = "WATCHDOG_PID"
)

// ClaimWatchdog makes the keep-alives that the service manager wants from this process those of whichever process
// is the master, for WATCHDOG_PID would name the first one only. If it wants them from another process
// nobody sends any.
func ClaimWatchdog() {
	if pid := os.Getenv(watchdogPID); pid != "" && pid != strconv.Itoa(os.Getpid()) {
		_ = os.Unsetenv(watchdogUsec)
	}
	_ = os.Unsetenv(watchdogPID)
}

// AliveEvery returns how often Alive is to be said, 0 for never. It is a third of the time after which
// the master counts as hung: between the last word of one and the first of the next that is
// listened to there may be two.
func AliveEvery() time.Duration {
	usec, err := strconv.ParseInt(os.Getenv(watchdogUsec), 10, 64)
	if err != nil || usec <= 0 || usec > int64(time.Hour*24*365/time.Microsecond) {
		return 0
	}
	return time.Duration(usec) * time.Microsecond / 3
}

// Alive says that the master is not hung.
func Alive() error { return send("WATCHDOG=1") }
