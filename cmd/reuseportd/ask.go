package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"reuseportd/internal/control"
)

// statusTimeout is how long `status` waits without --timeout.
const statusTimeout = 5 * time.Second

// heldPatience is how long a master may be stopped while a client waits for it.
// A variable, so that tests need not wait.
var heldPatience = 5 * time.Second

// ask sends one request to the running master, within c.Timeout. A master that has just
// been replaced says so, and then ask asks the next one.
func (c *cli) ask(req control.Request) (control.Response, error) {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	limit := c.Timeout
	if limit == 0 && req.Command == "status" {
		limit = statusTimeout
	}
	if limit > 0 {
		late := time.AfterFunc(limit, func() { cancel(fmt.Errorf("--timeout %s", limit)) })
		defer late.Stop()
	}
	const tries = 20
	for i := 0; ; i++ {
		resp, err := c.askWatched(ctx, cancel, req)
		var refused *control.RefusedError
		if !errors.As(err, &refused) || refused.Text != control.ErrSuperseded || i == tries {
			return resp, err
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// askWatched is like askOnce, but gives up if the master is stopped. A change may take
// any time, but a stopped master doesn't make it.
func (c *cli) askWatched(ctx context.Context, giveUp context.CancelCauseFunc, req control.Request) (control.Response, error) {
	client, err := c.dial(ctx)
	if err != nil {
		return control.Response{}, err
	}
	defer client.Close()
	watch, end := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if awaitHeld(watch, client.PID()) {
			giveUp(fmt.Errorf("stopped for %s", heldPatience))
		}
	}()
	defer func() { end(); <-ended }()
	return do(ctx, client, req)
}

// awaitHeld reports whether a process has been stopped or dead for all of heldPatience.
// It returns when ctx ends.
func awaitHeld(ctx context.Context, pid int) bool {
	tick := time.NewTicker(heldPatience / 20)
	defer tick.Stop()
	for since := time.Now(); time.Since(since) < heldPatience; {
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
		if p, err := control.LookAt(pid); err != nil || !p.Held() {
			since = time.Now() // a process that can't be seen may be alive
		}
	}
	return true
}

// askOnce sends one request to the current master.
func (c *cli) askOnce(ctx context.Context, req control.Request) (control.Response, error) {
	client, err := c.dial(ctx)
	if err != nil {
		return control.Response{}, err
	}
	defer client.Close()
	return do(ctx, client, req)
}

func (c *cli) dial(ctx context.Context) (*control.Client, error) {
	return control.DialContext(ctx, string(c.RuntimeDir), c.UnsafeRuntimeDir)
}

func do(ctx context.Context, client *control.Client, req control.Request) (control.Response, error) {
	req.Cause = "command"
	return client.Do(ctx, req)
}

func isNoMaster(err error) bool { return errors.Is(err, control.ErrNoMaster) }

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
