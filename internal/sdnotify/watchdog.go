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

// ClaimWatchdog makes whichever process is the master send the keep-alives that the service manager expects from
// this one, since WATCHDOG_PID names only the first master. If they are expected from another process none are
// sent.
func ClaimWatchdog() {
	if pid := os.Getenv(watchdogPID); pid != "" && pid != strconv.Itoa(os.Getpid()) {
		_ = os.Unsetenv(watchdogUsec)
	}
	_ = os.Unsetenv(watchdogPID)
}

// AliveEvery returns how often Alive should be called, 0 for never. It is a third of the time after
// which the master counts as hung: between the last keep-alive of one master and the first that counts
// of the next there may be two such intervals.
func AliveEvery() time.Duration {
	usec, err := strconv.ParseInt(os.Getenv(watchdogUsec), 10, 64)
	if err != nil || usec <= 0 || usec > int64(time.Hour*24*365/time.Microsecond) {
		return 0
	}
	return time.Duration(usec) * time.Microsecond / 3
}

// Alive says that the master is not hung.
func Alive() error { return send("WATCHDOG=1") }
