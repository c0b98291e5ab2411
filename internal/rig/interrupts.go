package rig

import (
	"os"
	"os/signal"
	"syscall"
)

// Interrupts are the signals that end a bench early, and cleanly: SIGPIPE too,
// which comes when nobody reads its progress any more. nohup(1) keeps SIGHUP off.
func Interrupts() []os.Signal {
	all := []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGPIPE}
	if !signal.Ignored(syscall.SIGHUP) {
		all = append(all, syscall.SIGHUP)
	}
	return all
}
