package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"reuseportd/internal/rig"
)

// cost does something that returns how many times it did it, and tells what each has cost the server.
func cost(c *contender, d time.Duration, what string, do func() (int, error)) ([]reading, error) {
	cpu, switches := c.CPU(), c.Switches()
	n, err := do()
	if err != nil {
		return nil, err
	}
	if n <= 0 {
		return nil, fmt.Errorf("no %s was done", what)
	}
	cpu, switches = c.CPU()-cpu, c.Switches()-switches
	return []reading{
		{what + ": CPU", "µs", micro(cpu) / float64(n), false},
		{what + ": rate", "/s", float64(n) / d.Seconds(), true},
		{what + ": context switches", "", float64(switches) / float64(n), true},
	}, nil
}

func micro(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// byWrk tells what a request of wrk costs.
func byWrk(ctx context.Context, c *contender, w rig.Wrk, d door, path, what string, t time.Duration) ([]reading, error) {
	return cost(c, t, what, func() (int, error) { return w.Run(ctx, "http://"+c.doors[d]+path, t) })
}

func kept(ctx context.Context, _ *bench, c *contender, d time.Duration) ([]reading, error) {
	return byWrk(ctx, c, rig.Wrk{Connections: connections}, doorSmall, "/", "request", d)
}

var churning = rig.Wrk{Connections: connections, Header: "Connection: close"}

func churn(ctx context.Context, _ *bench, c *contender, d time.Duration) ([]reading, error) {
	return byWrk(ctx, c, churning, doorChurn, "/", "request", d)
}

func proxied(ctx context.Context, _ *bench, c *contender, d time.Duration) ([]reading, error) {
	return byWrk(ctx, c, rig.Wrk{Connections: connections}, doorProxied, "/", "request", d)
}

func static(ctx context.Context, _ *bench, c *contender, d time.Duration) ([]reading, error) {
	var all []reading
	for _, f := range files {
		one, err := byWrk(ctx, c, rig.Wrk{Connections: connections}, doorStatic, "/static/"+f.name, f.size, d)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.size, err)
		}
		all = append(all, one...)
	}
	return all, nil
}

func models(ctx context.Context, _ *bench, c *contender, d time.Duration) ([]reading, error) {
	on, err := byWrk(ctx, c, rig.Wrk{Connections: connections}, doorModels, "/", "on a kept connection", d)
	if err != nil {
		return nil, err
	}
	fresh, err := byWrk(ctx, c, churning, doorModels, "/", "on a fresh connection", d)
	return append(on, fresh...), err
}

// depth is how many requests pipelined sends at once.
const depth = 16

// pipelining is wrk's script for it; wrk counts each answer.
const pipelining = `init = function(args)
  local all = {}
  for i = 1, %d do all[i] = wrk.format() end
  requests = table.concat(all)
end
request = function() return requests end
`

func writeScript(dir string) (string, error) {
	path := filepath.Join(dir, "pipelining.lua")
	return path, os.WriteFile(path, fmt.Appendf(nil, pipelining, depth), 0o644)
}

func pipelined(ctx context.Context, b *bench, c *contender, d time.Duration) ([]reading, error) {
	all, err := byWrk(ctx, c, rig.Wrk{Connections: connections, Script: b.script}, doorPipelined, "/", "request", d)
	for i := range all {
		if all[i].figure == requestRate {
			all[i].aside = false
		}
	}
	return all, err
}
