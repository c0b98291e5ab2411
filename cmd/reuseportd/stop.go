package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/control"
)

type stopCmd struct {
	JSON bool `help:"Print the receipt as JSON."`
}

// Run asks the master to stop and waits until it has gone.
func (s *stopCmd) Run(c *cli) error {
	resp, err := c.ask(control.Request{Command: "stop"})
	if err != nil {
		return err
	}
	r := resp.Receipt
	switch {
	case r == nil:
		return errors.New("stop: the master's answer has no receipt")
	case !r.OK:
		if s.JSON {
			_ = printJSON(c.out, r)
			return statusError(exitFailed)
		}
		return fmt.Errorf("stop: %s", r.Error)
	}
	if err := c.awaitEnd(r.PID); err != nil {
		return err
	}
	if s.JSON {
		err = printJSON(c.out, r)
	} else {
		_, err = fmt.Fprintf(c.out, "stopped after %s: %s finished, %d cut\n", milliseconds(r.ReadyMS),
			plural(int(r.Finished), "open connection", "open connections"), r.Cut)
	}
	if err != nil {
		return err
	}
	return s.sayOthers(c, r)
}

// sayOthers reports other processes that still listen at the service's addresses. Unless that
// is allowed (`share: true`) the exit status is 1: the service has stopped, but its port is
// still served.
func (s *stopCmd) sayOthers(c *cli, r *control.Receipt) (err error) {
	for _, o := range r.Others {
		if !s.JSON {
			fmt.Fprintf(c.err, "still answered: %s, which is not this service's\n", other(o))
		}
		if !o.Shared {
			err = statusError(exitFailed)
		}
	}
	return err
}

// awaitEnd waits for the last steps of a master that has stopped serving: files are
// removed, the lock is released, the process ends. Then nothing is in the way of a new
// master.
func (c *cli) awaitEnd(pid int) error {
	const patience = 5 * time.Second
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		resp, err := c.askOnce(ctx, control.Request{Command: "status"})
		if isNoMaster(err) {
			break
		}
		if err == nil && resp.Status != nil && resp.Status.PID != pid {
			return nil // the next one serves already
		}
		if ctx.Err() != nil {
			return fmt.Errorf("the master %d says that it has stopped, but it is still there after %s", pid, patience)
		}
		time.Sleep(5 * time.Millisecond)
	}
	// If the master is in another PID namespace, its number here means nothing or another
	// process: hence no error, and only a short wait.
	awaitExit(pid, time.Second)
	return nil
}

// awaitExit waits until the process has ended, if there is one.
func awaitExit(pid int, patience time.Duration) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return
	}
	defer func() { _ = unix.Close(fd) }()
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	end := time.Now().Add(patience)
	for left := patience; left > 0; left = time.Until(end) {
		if _, err := unix.Poll(fds, int(left.Milliseconds())+1); !errors.Is(err, unix.EINTR) {
			return
		}
	}
}
