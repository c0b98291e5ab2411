// Package sdnotify tells the service manager what the master does.
//
// It owns the words of sd_notify(3) and nothing else, and never waits: a service manager that has stopped
// hears them in their order once it goes on. Without NOTIFY_SOCKET in
// the environment every call does nothing and succeeds. It must never remove
// NOTIFY_SOCKET: the next master inherits it.
package sdnotify

import (
	"fmt"
	"strings"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// Ready says that start-up, or the reload that Reloading announced, is over.
// With a mainPID other than 0 the same message says who the master is.
func Ready(mainPID int) error {
	if mainPID == 0 {
		return send(daemon.SdNotifyReady)
	}
	return send(fmt.Sprintf("%s\nMAINPID=%d", daemon.SdNotifyReady, mainPID))
}

// Reloading says that a reload begins; Ready must follow, whatever comes of it.
// Type=notify-reload needs the time, which tells it from an earlier reload.
func Reloading() error {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return fmt.Errorf("tell the service manager of a reload: read the clock: %w", err)
	}
	return send(fmt.Sprintf("%s\nMONOTONIC_USEC=%d", daemon.SdNotifyReloading, now.Nano()/1000))
}

// Stopping says that the master has begun to stop.
func Stopping() error { return send(daemon.SdNotifyStopping) }

// Status sets the one line that `systemctl status` shows.
func Status(text string) error {
	return send("STATUS=" + strings.Join(strings.Fields(text), " "))
}
