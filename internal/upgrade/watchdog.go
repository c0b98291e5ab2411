package upgrade

import (
	"time"

	"reuseportd/internal/sdnotify"
)

// The service manager's watchdog. The coordinator's loop says that the master is alive, so a master whose
// loop doesn't turn is ended, and the next one adopts its workers.

// beats returns what tells the loop to say so, nil if nobody wants to hear it.
func beats() (<-chan time.Time, func()) {
	every := sdnotify.AliveEvery()
	if every == 0 {
		return nil, func() {}
	}
	t := time.NewTicker(every)
	return t.C, t.Stop
}

// aliveWhile says so while the loop waits for another master. most bounds that wait, and this. The function
// that it returns ends it.
func aliveWhile(most time.Duration) (end func()) {
	beat, stop := beats()
	over, late := make(chan struct{}), time.NewTimer(most)
	go func() {
		defer stop()
		defer late.Stop()
		for {
			select {
			case <-beat:
				_ = sdnotify.Alive()
			case <-late.C:
				return
			case <-over:
				return
			}
		}
	}()
	return func() { close(over) }
}
