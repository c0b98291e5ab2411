package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"reuseportd/internal/rig"
)

// contender is one server under measurement.
type contender struct {
	*rig.Server
	// reload returns the milliseconds to the new generation's serving; nil if
	// the server has no way to tell.
	reload func(context.Context) (float64, error)
}

// contenders are ours and those rivals that are installed.
func contenders(ctx context.Context, dir string, o options) ([]contender, error) {
	const workers = 2
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, err
	}
	ours, err := rig.NewReuseportd(ctx, dir, o.server)
	if err != nil {
		return nil, err
	}
	reload := func(ctx context.Context) (float64, error) {
		receipt, err := ours.Change(ctx, "reload")
		return receipt.ReadyMS, err
	}
	if err := ours.Configure(workers, 30*time.Second); err != nil {
		return nil, err
	}
	beside := filepath.Join(dir, "deferring")
	if err := os.Mkdir(beside, 0o755); err != nil {
		return nil, err
	}
	deferring, err := rig.NewReuseportd(ctx, beside, ours.Args[0])
	if err != nil {
		return nil, err
	}
	deferring.Name, deferring.Keys = "with defer_accept", "defer_accept: true"
	if err := deferring.Configure(workers, 30*time.Second); err != nil {
		return nil, err
	}
	all := []contender{{ours.Server, reload}, {Server: deferring.Server}}
	rival, err := rig.NewNginx(dir)
	switch {
	case errors.Is(err, exec.ErrNotFound):
		fmt.Fprintln(os.Stderr, "bench: nginx is not here, so there is nothing to compare with: apt-get install nginx-light")
		return all, nil
	case err != nil:
		return nil, err
	}
	return append(all, contender{Server: rival.Server}), rival.Configure(workers)
}
