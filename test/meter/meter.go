// Package meter counts what a server's clients lose while the server is
// reloaded, upgraded or killed.
//
// It owns client connections of eight kinds and the judgement of what was lost.
// It must never be the reason for a loss itself: it keeps to bounded numbers
// of descriptors and connects a second, finishes every exchange it began
// before it stops, and never retries in silence.
//
// What is lost: every request or stream that did not get the whole and right
// answer, and every kept connection that the server ended otherwise than by an
// answer with "Connection: close" (RFC 9112 section 9.6), whether or not a
// request was under way. When the measure is strict, that is a loss as well.
package meter

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"
)

// Config says whom to measure, with how many clients of each kind. Zero
// clients of a kind is none; see Defaults.
type Config struct {
	// HTTP and Echo are "127.0.0.1:8080", "[::1]:8080" or "unix:/path"; "" is
	// none. They may be the same in every respect but the service.
	HTTP, Echo string
	// Host is the Host field, by default that of HTTP.
	Host string
	// Paths are asked for in turn, by default "/". When their answers differ,
	// the pipeline clients also prove the answers' order.
	Paths []string
	// BodyMethod is the method of requests with a body, by default POST. GET is for paths
	// that allow nothing else.
	BodyMethod string
	// Check judges an answer. By default status and body must be the ones that
	// the same path gave at Start.
	Check func(path string, status int, body []byte) error
	// Strict makes an answer with "Connection: close" a loss where the client
	// had not asked for it: for a server that hands its connections over.
	Strict bool

	Fresh    int // clients that connect for each request
	Kept     int // clients that send request after request on one connection
	Halves   int // clients that send each request in two halves
	Pipeline int // clients that send several requests at once
	Stream   int // echo streams at a time
	Burst    int // connects at once in each burst
	Idle     int // connections that are silent between Start and Stop
	Download int // clients that fetch one file slowly

	// DownloadPath is where the file is, and DownloadFile its content on this
	// machine. A client reads at most DownloadRate bytes a second, and at most
	// a tenth of what is left, so that its download lasts until Stop.
	DownloadPath, DownloadFile string
	DownloadRate               int

	FreshRate  int           // connects a second over all Fresh clients, at most 2000
	KeptPause  time.Duration // between two requests on a kept connection
	HalfPause  time.Duration // at most this between two halves
	BurstPause time.Duration // between two bursts
	// StreamLife is the longest life of an echo stream; each has a random part
	// of it, but for the first, which lives until Stop.
	StreamLife time.Duration
	// Timeout bounds every connect, write and read.
	Timeout time.Duration
	// Seed makes the clients' random choices and streams; the first failing
	// run can be had again with it, in all but timing.
	Seed uint64
}

// Bounds on the resources of one Meter.
const (
	maxClients     = 4000  // clients that need a goroutine or two
	maxDescriptors = 12000 // of all kinds together
	maxRate        = 2000  // fresh, burst and idle connects a second, each
)

// Defaults measures with every kind of client, in numbers that leave a
// two-core machine room for the server.
func Defaults(http, echo string) Config {
	c := Config{HTTP: http, Echo: echo}
	if http != "" {
		c.Fresh, c.Kept, c.Halves, c.Pipeline, c.Burst = 4, 16, 8, 4, 400
	}
	if echo != "" {
		c.Stream = 8
	}
	return c
}

func (c *Config) fill() error {
	if c.BodyMethod == "" {
		c.BodyMethod = "POST"
	}
	if c.HTTP == "" {
		c.Fresh, c.Kept, c.Halves, c.Pipeline, c.Burst = 0, 0, 0, 0, 0
		c.Idle, c.Download = 0, 0
	}
	if c.Echo == "" {
		c.Stream = 0
	}
	if c.Host == "" {
		c.Host = strings.TrimPrefix(c.HTTP, "unix:")
		if strings.Contains(c.Host, "/") {
			c.Host = "localhost"
		}
	}
	if len(c.Paths) == 0 {
		c.Paths = []string{"/"}
	}
	setDefault(&c.FreshRate, 400)
	setDefault(&c.KeptPause, 5*time.Millisecond)
	setDefault(&c.HalfPause, 150*time.Millisecond)
	setDefault(&c.BurstPause, 400*time.Millisecond)
	setDefault(&c.StreamLife, time.Second)
	setDefault(&c.Timeout, 5*time.Second)
	setDefault(&c.Seed, uint64(time.Now().UnixNano()))
	setDefault(&c.DownloadRate, 1<<20)
	return c.bound()
}

// bound limits c to what this machine can do.
func (c *Config) bound() error {
	n := c.Fresh + c.Kept + c.Halves + c.Pipeline + c.Stream + c.Burst + c.Download
	if n > maxClients {
		return fmt.Errorf("%d clients: at most %d at a time", n, maxClients)
	}
	if n += c.Idle; n > maxDescriptors {
		return fmt.Errorf("%d clients and idle connections: at most %d at a time", n, maxDescriptors)
	}
	if err := raiseLimit(n); err != nil {
		return fmt.Errorf("%d clients: %w", n, err)
	}
	if c.FreshRate > maxRate {
		return fmt.Errorf("%d fresh connects a second: at most %d", c.FreshRate, maxRate)
	}
	if c.Burst > 0 && float64(c.Burst)/c.BurstPause.Seconds() > maxRate {
		return fmt.Errorf("bursts of %d every %v: at most %d connects a second", c.Burst, c.BurstPause, maxRate)
	}
	return nil
}

func setDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// Meter is a running measurement.
type Meter struct {
	cfg     Config
	started time.Time
	cancel  context.CancelFunc
	clients sync.WaitGroup
	tallies map[Kind]*tally
	learned map[string]reference // answers at Start, by path
	source  sources
	syn     uint64     // TCPSynRetrans at Start
	silent  []*rawConn // of Idle
	file    *os.File   // DownloadFile

	mu     sync.Mutex
	mark   string
	markAt time.Time
	marked chan struct{} // closed by the next Mark
}

// Start asks for every path once, to learn the answers, opens the idle
// connections, and then lets all clients loose until Stop or the end of ctx.
// Its error says why there is nothing to measure.
func Start(ctx context.Context, cfg Config) (*Meter, error) {
	if err := cfg.fill(); err != nil {
		return nil, fmt.Errorf("meter: %w", err)
	}
	now := time.Now()
	m := &Meter{
		cfg: cfg, started: now,
		mark: "start", markAt: now, marked: make(chan struct{}),
		tallies: make(map[Kind]*tally),
		learned: make(map[string]reference),
		syn:     synRetrans(),
	}
	if cfg.HTTP != "" {
		if err := m.learn(); err != nil {
			return nil, fmt.Errorf("meter: %w", err)
		}
	}
	if cfg.Download > 0 {
		if err := m.openFile(); err != nil {
			return nil, fmt.Errorf("meter: %w", err)
		}
	}
	ctx, m.cancel = context.WithCancel(ctx)
	m.openIdle(ctx)
	m.run(ctx, Fresh, cfg.Fresh, m.fresh)
	m.run(ctx, Kept, cfg.Kept, m.kept)
	m.run(ctx, Halves, cfg.Halves, m.halves)
	m.run(ctx, Pipeline, cfg.Pipeline, m.pipeline)
	m.run(ctx, Stream, cfg.Stream, m.stream)
	m.run(ctx, Burst, min(cfg.Burst, 1), m.burst)
	m.run(ctx, Idle, min(cfg.Idle, 1), m.idle)
	m.run(ctx, Download, cfg.Download, m.download)
	return m, nil
}

// run starts n clients of one kind. A client returns soon after ctx ends, when
// it has finished what it began.
func (m *Meter) run(ctx context.Context, kind Kind, n int, client func(context.Context, *tally, int)) {
	if n == 0 {
		return
	}
	t := m.tally(kind)
	for id := range n {
		m.clients.Go(func() { client(ctx, t, id) })
	}
}

// tally is the account of a kind.
func (m *Meter) tally(kind Kind) *tally {
	if m.tallies[kind] == nil {
		m.tallies[kind] = newTally(m, kind)
	}
	return m.tallies[kind]
}

// Mark names what is being done to the server from now on; a loss is reported
// with the last mark before it. Half of the halves clients send their second
// half at the next mark.
func (m *Meter) Mark(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mark, m.markAt = fmt.Sprintf(format, args...), time.Now()
	close(m.marked)
	m.marked = make(chan struct{})
}

// Waiting returns the kinds of clients of which none has connected yet.
func (m *Meter) Waiting() (kinds []Kind) {
	for _, k := range Kinds {
		if t := m.tallies[k]; t != nil && !t.begun() {
			kinds = append(kinds, k)
		}
	}
	return kinds
}

// Stop lets every client finish its exchange, within about two timeouts, and
// gives the account.
func (m *Meter) Stop() *Result {
	m.cancel()
	m.clients.Wait()
	if m.file != nil {
		m.file.Close()
	}
	r := &Result{Duration: time.Since(m.started), Seed: m.cfg.Seed}
	if now := synRetrans(); now >= m.syn {
		r.SynRetrans = now - m.syn
	}
	for _, k := range Kinds {
		if t := m.tallies[k]; t != nil {
			s, losses := t.result()
			r.Kinds = append(r.Kinds, s)
			r.Losses = append(r.Losses, losses...)
		}
	}
	return r
}

func (m *Meter) learn() error {
	for _, path := range m.cfg.Paths {
		c, err := m.dial(nil, m.cfg.HTTP)
		if err != nil {
			return fmt.Errorf("first request to %s: %w", m.cfg.HTTP, err)
		}
		a, err := c.exchange(m.request(path, true))
		c.Close()
		if err != nil {
			return fmt.Errorf("first request to %s for %s: %w", m.cfg.HTTP, path, err)
		}
		m.learned[path] = reference{a.status, string(a.body)}
	}
	return nil
}

// check judges a whole answer.
func (m *Meter) check(path string, a answer) error {
	if m.cfg.Check != nil {
		return m.cfg.Check(path, a.status, a.body)
	}
	want := m.learned[path]
	if a.status != want.status {
		return fmt.Errorf("status %d, want %d", a.status, want.status)
	}
	if string(a.body) != want.body {
		return fmt.Errorf("wrong body for %s: %.40q, want %.40q", path, a.body, want.body)
	}
	return nil
}

// reference is the answer that a path gave at Start.
type reference struct {
	status int
	body   string
}

// sleep waits for d or the end of ctx.
func sleep(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

func splitAddress(address string) (network, addr string) {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		return "unix", path
	}
	return "tcp", address
}

// isTimeout tells a deadline from everything else.
func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}
