package main

import (
	"context"
	"fmt"
	"slices"
	"syscall"
	"time"

	"reuseportd/internal/rig"
)

const (
	// drainTimeout is short for ours, so that an old generation that would cut
	// its clients does so before they are counted. nginx and HAProxy have no such
	// limit unless they are given one.
	drainTimeout = 2 * time.Second
	pause        = 300 * time.Millisecond // from one reload or upgrade to the next
	settled      = drainTimeout + time.Second
)

// event is something that happens to a server. happen returns the table's cell.
type event struct {
	name   string
	happen func(context.Context, *contender) (string, error)
}

var events = []event{
	{"10 reloads, 16 clients sending on kept connections", reloads},
	{"3 reloads, 1000 idle kept connections", idle},
	{"workers 4⇄1, 10 times, 16 clients with a connection for each request (HAProxy: threads)", resize},
	{"5 binary upgrades, 32 clients sending on kept connections", upgrades},
	{"kill -9 of a worker, 16 clients on kept connections", killWorker},
	{"kill -9 of the master, then a new start, 16 clients on kept connections", killMaster},
	{"3 reloads during a TCP stream (nginx, HAProxy: as proxy)", longStream},
}

func reloads(ctx context.Context, c *contender) (string, error) {
	load := rig.StartKept(ctx, c.Address, 16)
	defer load.Stop()
	if err := repeat(ctx, 10, c.reload); err != nil {
		return "", err
	}
	return outcome(load.Stop()), nil
}

func idle(ctx context.Context, c *contender) (string, error) {
	conns, err := rig.OpenIdle(ctx, c.Address, 1000)
	defer func() { rig.CloseAll(conns) }()
	if err != nil {
		return "", err
	}
	if err := repeat(ctx, 3, c.reload); err != nil {
		return "", err
	}
	if err := rig.Sleep(ctx, settled); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d closed", rig.CountLost(conns)), nil
}

func resize(ctx context.Context, c *contender) (string, error) {
	load := rig.StartFresh(ctx, c.Address, 16)
	defer load.Stop()
	workers := 4
	err := repeat(ctx, 10, func(ctx context.Context) error {
		if err := c.configure(workers); err != nil {
			return err
		}
		workers = 5 - workers
		return c.reload(ctx)
	})
	return outcome(load.Stop()), err
}

func upgrades(ctx context.Context, c *contender) (string, error) {
	load := rig.StartKept(ctx, c.Address, 32)
	defer load.Stop()
	if err := repeat(ctx, 5, c.upgrade); err != nil {
		return "", err
	}
	text := outcome(load.Stop())
	if c.upgradeNote != "" {
		text += " (" + c.upgradeNote + ")"
	}
	return text, nil
}

func killWorker(ctx context.Context, c *contender) (string, error) {
	load := rig.StartKept(ctx, c.Address, 16)
	defer load.Stop()
	if err := rig.Sleep(ctx, pause); err != nil {
		return "", err
	}
	if err := syscall.Kill(c.workers()[0], syscall.SIGKILL); err != nil {
		return "", err
	}
	if err := rig.Sleep(ctx, time.Second); err != nil {
		return "", err
	}
	serves := rig.Serves(ctx, c.Address, 8)
	return fmt.Sprintf("served after: %s; %s", yes(serves), outcome(load.Stop())), nil
}

func killMaster(ctx context.Context, c *contender) (string, error) {
	load := rig.StartKept(ctx, c.Address, 16)
	defer load.Stop()
	if err := rig.Sleep(ctx, pause); err != nil {
		return "", err
	}
	if err := c.signal(ctx, syscall.SIGKILL); err != nil {
		return "", err
	}
	if err := rig.Sleep(ctx, time.Second); err != nil {
		return "", err
	}
	between := rig.Serves(ctx, c.Address, 8)
	if err := c.Launch(); err != nil {
		return "", err
	}
	if err := rig.Sleep(ctx, settled); err != nil {
		return "", err
	}
	after := rig.Serves(ctx, c.Address, 8)
	text := fmt.Sprintf("served between: %s, after: %s; %s", yes(between), yes(after), outcome(load.Stop()))
	// Whether or not the new master has taken the old workers over.
	if n := len(c.workers()); n != c.processes {
		text += fmt.Sprintf("; **%d workers** instead of %d", n, c.processes)
	}
	return text, nil
}

func longStream(ctx context.Context, c *contender) (string, error) {
	if c.stream == "" {
		return "–", nil
	}
	s, err := openStream(ctx, c.stream)
	if err != nil {
		return "", err
	}
	defer s.stop()
	var old []int
	err = repeat(ctx, 3, func(ctx context.Context) error {
		old = append(old, c.workers()...)
		return c.reload(ctx)
	})
	if err != nil {
		return "", err
	}
	if err := rig.Sleep(ctx, 5*time.Second); err != nil {
		return "", err
	}
	left := len(common(c.workers(), old))
	fate := "lives"
	if s.stop() != nil {
		fate = "**ends**"
	}
	return fmt.Sprintf("%s; old processes after 5 s: %d", fate, left), nil
}

// repeat does something n times, with time before and after each.
func repeat(ctx context.Context, n int, do func(context.Context) error) error {
	for range n {
		if err := rig.Sleep(ctx, pause); err != nil {
			return err
		}
		if err := do(ctx); err != nil {
			return err
		}
	}
	return rig.Sleep(ctx, pause)
}

// common are the values of a that are in b.
func common(a, b []int) []int {
	return slices.DeleteFunc(slices.Clone(a), func(v int) bool { return !slices.Contains(b, v) })
}

// without are the values of a that are not in b.
func without(a, b []int) []int {
	return slices.DeleteFunc(slices.Clone(a), func(v int) bool { return slices.Contains(b, v) })
}
