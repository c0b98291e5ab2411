package acceptbench

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"reuseportd/internal/loadgen"
	"reuseportd/internal/rig"
)

// A slow worker is stopped for stallFor in every stallEvery.
const (
	stallFor   = 200 * time.Millisecond
	stallEvery = time.Second
)

// stall makes a process slow (SIGSTOP, SIGCONT) until stop is called. stop leaves the
// process running, even if ctx has ended.
func stall(ctx context.Context, pid int) (stop func() error, err error) {
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		return nil, fmt.Errorf("make worker %d slow: %w", pid, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		for {
			_ = rig.Sleep(ctx, stallFor)
			if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
				ended <- fmt.Errorf("let worker %d go on: %w", pid, err)
				return
			}
			if rig.Sleep(ctx, stallEvery-stallFor) != nil {
				ended <- nil
				return
			}
			_ = syscall.Kill(pid, syscall.SIGSTOP) // of nobody, SIGCONT will tell
		}
	}()
	return func() error { cancel(); return <-ended }, nil
}

// measureSlow is like measure, but makes the first worker slow.
func (s *server) measureSlow(ctx context.Context, c loadgen.Config, d time.Duration) (window, error) {
	snap, err := s.snapshot(ctx)
	if err != nil {
		return window{}, err
	}
	stop, err := stall(ctx, snap.pids[1])
	if err != nil {
		return window{}, err
	}
	w, err := s.measure(ctx, c, d)
	return w, errors.Join(err, stop())
}
