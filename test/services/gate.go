package services

import (
	"context"
	"sync"
)

// Gate lets traffic go on as far as the test has opened it.
type Gate struct {
	mu      sync.Mutex
	open    int
	changed chan struct{} // closed when open grows
}

// NewGate is open for step 0 alone.
func NewGate() *Gate { return &Gate{changed: make(chan struct{})} }

// Open lets pass all that wait for step n, or one before it.
func (g *Gate) Open(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if n > g.open {
		g.open = n
		close(g.changed)
		g.changed = make(chan struct{})
	}
}

// Shut is open for step 0 alone again.
func (g *Gate) Shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open = 0
}

// Wait returns when step n is open.
func (g *Gate) Wait(ctx context.Context, n int) error {
	for {
		g.mu.Lock()
		open, changed := g.open, g.changed
		g.mu.Unlock()
		if open >= n {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
