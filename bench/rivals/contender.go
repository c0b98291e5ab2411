package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"reuseportd/internal/rig"
)

// startWorkers is what every event begins with.
const startWorkers = 2

// contender is one server that is put through the events.
type contender struct {
	*rig.Server
	// configure writes its configuration for so many workers (of HAProxy:
	// threads); a running server takes it at the next reload.
	configure func(workers int) error
	// reload returns when the new generation serves, as far as that shows.
	reload func(context.Context) error
	// upgrade replaces the binary by itself and returns like reload.
	upgrade func(context.Context) error
	// upgradeNote says what is done for upgrade, if it needs saying.
	upgradeNote string
	master      func(context.Context) (int, error)
	isWorker    func(rig.Process) bool
	processes   int    // how many workers it is started with
	stream      string // address that echoes; "" if it can't
}

// contenders are ours and those rivals that are installed, rivals first.
func contenders(ctx context.Context, dir, server, echo string) ([]*contender, error) {
	var all []*contender
	for _, rival := range []func(dir, echo string) (*contender, error){nginx, haproxy} {
		switch c, err := rival(dir, echo); {
		case err == nil:
			all = append(all, c)
		case !errors.Is(err, exec.ErrNotFound):
			return nil, err
		}
	}
	ours, err := reuseportd(ctx, dir, server)
	return append(all, ours), err
}

func reuseportd(ctx context.Context, dir, binary string) (*contender, error) {
	r, err := rig.NewReuseportd(ctx, dir, binary)
	if err != nil {
		return nil, err
	}
	if r.EchoAddress, err = rig.FreeAddress(); err != nil {
		return nil, err
	}
	return &contender{
		Server:    r.Server,
		configure: func(workers int) error { return r.Configure(workers, drainTimeout) },
		reload: func(ctx context.Context) error {
			_, err := r.Change(ctx, "reload")
			return err
		},
		upgrade: func(ctx context.Context) error {
			if err := r.ReplaceBinary(); err != nil {
				return err
			}
			_, err := r.Change(ctx, "upgrade")
			return err
		},
		master: func(ctx context.Context) (int, error) {
			status, err := r.Status(ctx)
			return status.PID, err
		},
		isWorker:  func(p rig.Process) bool { return strings.HasPrefix(p.Command, "reuseportd: worker ") },
		processes: startWorkers,
		stream:    r.EchoAddress,
	}, nil
}

// workers are the PIDs of all workers that live, old and new.
func (c *contender) workers() []int {
	var pids []int
	for _, p := range c.Processes() {
		if c.isWorker(p) {
			pids = append(pids, p.PID)
		}
	}
	return pids
}

// signal sends the master a signal.
func (c *contender) signal(ctx context.Context, sig syscall.Signal) error {
	pid, err := c.master(ctx)
	if err != nil {
		return fmt.Errorf("find the master: %w", err)
	}
	if err := syscall.Kill(pid, sig); err != nil {
		return fmt.Errorf("send %v to the master %d: %w", sig, pid, err)
	}
	return nil
}

var errLate = errors.New("it took more than five seconds")

// await checks every few milliseconds whether a condition holds.
func (c *contender) await(ctx context.Context, holds func() bool) error {
	for end := time.Now().Add(5 * time.Second); !holds(); {
		if time.Now().After(end) {
			return errLate
		}
		if err := rig.Sleep(ctx, 5*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// anew starts a new generation by do, and waits until one of its workers lives.
func (c *contender) anew(ctx context.Context, do func() error) error {
	before := c.workers()
	if err := do(); err != nil {
		return err
	}
	return c.await(ctx, func() bool { return len(without(c.workers(), before)) > 0 })
}
