package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"reuseportd/internal/rig"
)

const (
	idlers = 10000
	pairs  = 4000 // a proxy has two descriptors for each
	active = 100  // connections that aren't idle
	// settling is how many connections a fresh server has before its memory is looked at first: all workers have
	// started, and have touched what the first connection needs.
	settling = 100
)

func besideIdle(ctx context.Context, _ *bench, c *contender, d time.Duration) ([]reading, error) {
	conns, err := rig.OpenIdle(ctx, c.doors[doorIdle], idlers)
	defer func() { rig.CloseAll(conns) }()
	if err != nil {
		return nil, err
	}
	return byWrk(ctx, c, rig.Wrk{Connections: active}, doorIdle, "/", "request", d)
}

// memory gives the private memory that one idle connection adds, after a request on it, and one idle pair, after a
// message each way. Each meets a server that has just been started: one that has been under load has memory to spare.
// What the kernel holds for the sockets is not in it.
func memory(ctx context.Context, _ *bench, c *contender, _ time.Duration) ([]reading, error) {
	var all []reading
	for _, m := range []struct {
		name string
		door door
		n    int
		open func(context.Context, string, int) ([]*rig.Conn, error)
	}{
		{"kept connection: memory", doorIdle, idlers, rig.OpenIdle},
		{"pair of a TCP proxy: memory", doorTCP, pairs, openPairs},
	} {
		address := c.doors[m.door]
		if address == "" {
			continue
		}
		c.Stop()
		if err := start(ctx, c); err != nil {
			return nil, err
		}
		v, err := memoryOfOne(c, m.n, func(n int) ([]*rig.Conn, error) { return m.open(ctx, address, n) })
		if err != nil {
			return nil, fmt.Errorf("%s: %w", m.name, err)
		}
		all = append(all, reading{m.name, "bytes", v, false})
	}
	return all, nil
}

// memoryOfOne is the private memory that one of n connections adds.
func memoryOfOne(c *contender, n int, open func(int) ([]*rig.Conn, error)) (float64, error) {
	first, err := open(settling)
	defer func() { rig.CloseAll(first) }()
	if err != nil {
		return 0, err
	}
	before, err := c.Private()
	if err != nil {
		return 0, err
	}
	conns, err := open(n)
	defer func() { rig.CloseAll(conns) }()
	if err != nil {
		return 0, err
	}
	after, err := c.Private()
	return float64(after-before) / float64(n), err
}

// openPairs opens connections and has a message echoed on each. On an error, too, it
// returns what is open.
func openPairs(ctx context.Context, address string, n int) ([]*rig.Conn, error) {
	var conns []*rig.Conn
	text := make([]byte, message)
	for len(conns) < n {
		c, err := rig.Dial(ctx, address)
		if err != nil {
			return conns, err
		}
		conns = append(conns, c)
		if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
			return conns, err
		}
		if _, err := c.Write(text); err != nil {
			return conns, err
		}
		if _, err := io.ReadFull(c, text); err != nil {
			return conns, fmt.Errorf("pair %d: %w", len(conns), err)
		}
	}
	return conns, nil
}
