package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"reuseportd/internal/rig"
)

// settling is how many pairs a fresh proxy has before its memory is looked at first:
// all workers have started, and have touched what the first connection needs.
const settling = 100

// memory gives the private memory that one idle TCP pair adds, after a message each
// way. Each round meets a proxy that has just been started: one that has been under
// load has memory to spare. What the kernel holds for the sockets is not in it.
func memory(ctx context.Context, b *bench) ([]row, error) {
	r := newRow(fmt.Sprintf("private memory, one of %d idle TCP pairs", b.o.pairs), "bytes")
	for round := range b.o.rounds {
		fmt.Fprintf(os.Stderr, "bench-proxy: memory, round %d of %d\n", round+1, b.o.rounds)
		for _, p := range b.proxies {
			p.Stop()
			if err := p.Start(ctx); err != nil {
				return nil, err
			}
			v, err := pairMemory(ctx, p, b.o.pairs)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", p.Name, err)
			}
			r.add(p.Name, v)
		}
	}
	return []row{r}, nil
}

func pairMemory(ctx context.Context, p *proxy, n int) (float64, error) {
	first, err := openPairs(ctx, p.tcp, settling)
	defer func() { rig.CloseAll(first) }()
	if err != nil {
		return 0, err
	}
	before, err := p.Private()
	if err != nil {
		return 0, err
	}
	conns, err := openPairs(ctx, p.tcp, n)
	defer func() { rig.CloseAll(conns) }()
	if err != nil {
		return 0, err
	}
	after, err := p.Private()
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
