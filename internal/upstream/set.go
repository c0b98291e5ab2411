package upstream

import (
	"context"
	"fmt"

	"reuseportd/internal/config"
)

// Set is the upstreams of one worker.
type Set struct {
	pools map[string]*config.Upstream
}

// New makes the upstreams of a configuration, which must stay as it is. What is known of
// their servers lies on board; with nil, or where it has no room, in memory of this process. tell
// is called with each Event, by loops and other goroutines: it must not block. nil is allowed.
func New(conf []config.Upstream, board *Board, tell func(Event)) (*Set, error) {
	s := &Set{pools: make(map[string]*config.Upstream)}
	for i := range conf {
		s.pools[conf[i].Name] = &conf[i]
	}
	return s, nil
}

// Run looks up names and checks servers until ctx is done. A worker that drains ends it:
// its configuration may be an old one, by which servers are no longer to be judged. It
// returns when all its goroutines have ended.
func (s *Set) Run(ctx context.Context) { <-ctx.Done() }

// Resolved is closed when each name has been looked up once, with or without success.
func (s *Set) Resolved() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

// Chooser makes the chooser of an upstream for an event loop, whose page of the ledger is
// the number of its row on the board. All choosers of a loop have the same row, and no other
// loop has it.
func (s *Set) Chooser(upstream string, row int) (*Chooser, error) {
	conf := s.pools[upstream]
	if conf == nil {
		return nil, fmt.Errorf("no upstream %s", upstream)
	}
	return &Chooser{conf: conf}, nil
}
