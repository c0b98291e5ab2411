package rig

import (
	"os"
	"os/signal"
	"syscall"
)

// Interrupts returns the signals that end a bench early but cleanly. They include
// SIGPIPE, which comes when nobody reads its progress any more, and SIGHUP unless it is
// ignored, as by nohup(1).
func Interrupts() []os.Signal {
	all := []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGPIPE}
	if !signal.Ignored(syscall.SIGHUP) {
		all = append(all, syscall.SIGHUP)
	}
	return all
}
