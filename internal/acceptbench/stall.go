package acceptbench

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"reuseportd/internal/rig"
)

// A slow worker stands still for stallFor in every stallEvery.
const (
	stallFor   = 200 * time.Millisecond
	stallEvery = time.Second
)

// stall makes a process slow (SIGSTOP, SIGCONT) until the function that it
// returns is called, which leaves it running, whatever has become of ctx.
func stall(ctx context.Context, pid int) (stop func() error) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		var err error
		for err == nil && ctx.Err() == nil {
			if err = syscall.Kill(pid, syscall.SIGSTOP); err != nil {
				break
			}
			_ = rig.Sleep(ctx, stallFor)
			err = syscall.Kill(pid, syscall.SIGCONT)
			_ = rig.Sleep(ctx, stallEvery-stallFor)
		}
		ended <- err
	}()
	return func() error {
		cancel()
		if err := <-ended; err != nil {
			return fmt.Errorf("slow worker %d: %w", pid, err)
		}
		return nil
	}
}
