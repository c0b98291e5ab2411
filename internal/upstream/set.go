package upstream

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/config"
)

// Set is the upstreams of one worker.
type Set struct {
	board    *Board
	notify   func(Event)
	resolver *net.Resolver
	pools    map[string]*pool
	order    []*pool

	// unanswered is how many names have not been looked up yet; resolved is closed when it
	// reaches 0.
	unanswered atomic.Int64
	resolved   chan struct{}
	// changed wakes the checks when the servers have changed.
	changed chan struct{}
	crowded sync.Once // reports that the board has no room

	mu   sync.Mutex
	rows map[int]*row // the rows of this worker's loops
}

// New makes the upstreams of a configuration, which must not change. What is known about
// their servers is kept on board, or, if that is nil or has no room, in this process's
// memory. tell is called with each Event, by loops and other goroutines: it must not
// block, and may be nil.
func New(conf []config.Upstream, board *Board, tell func(Event)) (*Set, error) {
	s := &Set{
		board: board, notify: tell, resolver: net.DefaultResolver,
		pools:    make(map[string]*pool),
		resolved: make(chan struct{}),
		changed:  make(chan struct{}, 1),
		rows:     make(map[int]*row),
	}
	now := monotonic()
	for i := range conf {
		p := &pool{
			set: s, conf: &conf[i],
			names:   make([]*name, len(conf[i].Servers)),
			servers: make(map[string]*Server),
			gone:    make(map[string]int64),
		}
		if s.pools[p.conf.Name] != nil {
			return nil, fmt.Errorf("upstream %s is there twice", p.conf.Name)
		}
		p.state, _ = s.entry(&key{ofUpstream, p.conf.Name, ""}, now)
		s.pools[p.conf.Name] = p
		s.order = append(s.order, p)
		p.nameAll(now)
		p.rebuild(now)
	}
	if s.unanswered.Load() == 0 {
		close(s.resolved)
	}
	return s, nil
}

// UseTLS has an upstream's health checks use TLS. A configuration without ServerName gets each server's own. It may not be
// changed any more, and may be replaced by another one.
func (s *Set) UseTLS(upstream string, conf *tls.Config) {
	if p := s.pools[upstream]; p != nil {
		p.tls.Store(conf)
	}
}

// Run looks up names and checks servers until ctx is done. A draining worker ends it,
// since servers should not be judged by an old configuration. Run returns when all its
// goroutines have ended.
func (s *Set) Run(ctx context.Context) {
	var all sync.WaitGroup
	defer all.Wait()
	for _, p := range s.order {
		for _, n := range p.names {
			if n != nil {
				all.Go(func() { p.follow(ctx, n) })
			}
		}
	}
	all.Go(func() { s.check(ctx) })
	s.keep(ctx)
}

// Resolved is closed when each name has been looked up once, with or without success.
func (s *Set) Resolved() <-chan struct{} { return s.resolved }

// Chooser makes the chooser of an upstream for an event loop, whose page of the ledger is
// the number of its row on the board. All choosers of a loop have the same row, and no other
// loop has it.
func (s *Set) Chooser(upstream string, row int) (*Chooser, error) {
	p := s.pools[upstream]
	if p == nil {
		return nil, fmt.Errorf("there is no upstream %s", upstream)
	}
	if row < 0 || row >= maxRows {
		return nil, fmt.Errorf("upstream %s: no row %d on the board, which has %d", upstream, row, maxRows)
	}
	return newChooser(p, s.row(row), row), nil
}

func (s *Set) row(i int) *row {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rows[i] == nil && s.board != nil {
		s.rows[i] = s.board.useRow(i)
	}
	return s.rows[i]
}

// keepEvery is how often entries are touched, so that they are not freed.
const keepEvery = 5 * time.Second

func (s *Set) keep(ctx context.Context) {
	tick := time.NewTicker(keepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, p := range s.order {
			p.keep(monotonic())
		}
	}
}

func (p *pool) keep(now int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state.touched.Store(now)
	other := false
	for _, n := range p.names {
		other = n != nil && p.keepName(n, now) || other
	}
	lost := false
	for _, s := range p.list.Load().servers {
		s.touch(now)
		lost = lost || s.state.id.Load() != s.id
	}
	if lost || other {
		p.rebuild(now)
	}
	if other {
		p.set.wake()
	}
}

// wake tells the checks that the servers have changed.
func (s *Set) wake() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// entry returns the entry of k and its number, or a private entry and -1.
func (s *Set) entry(k *key, now int64) (*entry, int) {
	if i := s.claim(k, now); i >= 0 {
		return &s.board.entries[i], i
	}
	return new(entry), -1
}

func (s *Set) claim(k *key, now int64) int {
	if s.board == nil {
		return -1
	}
	i := s.board.claim(k, now)
	if i < 0 {
		s.crowded.Do(func() {
			s.event(Event{k.upstream, k.text, Up, Up, "there is no room for it in the workers' shared memory: " +
				"its state, its counters and max_connections are each worker's own (and those of others as well)"})
		})
	}
	return i
}

func (s *Set) event(e Event) {
	if s.notify != nil {
		s.notify(e)
	}
}

// monotonic returns the time of CLOCK_MONOTONIC, which the turns of eventloop.Loop use as
// well.
func monotonic() int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return ts.Nano()
}
