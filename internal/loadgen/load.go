package loadgen

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Config describes a load.
type Config struct {
	Address     netip.AddrPort // IPv4
	Connections int            // the clients of a closed load or a kept paced one; otherwise the most connections that a paced load has open
	Threads     int
	Kept        bool    // many requests on a connection; otherwise one, with Connection: close
	Together    bool    // a closed, kept load sends nothing until each thread has all its connections
	Echo        int     // bytes of a request, which an echo sends back; the client closes. 0: HTTP
	Rate        float64 // connections per second of a paced load, or requests if connections are kept; 0: a closed load
}

// Counts are what a load has done so far.
type Counts struct {
	Connects uint64 `json:"connects"` // connections that were established
	Answered uint64 `json:"answered"` // requests that were answered whole, with 200
	Failed   uint64 `json:"failed"`   // connects that were refused, or for which there was no descriptor or port
	Lost     uint64 `json:"lost"`     // requests without a whole answer, including those that Stop did not wait for and those that could not begin
	// Closed are kept connections that the server ended, by `Connection: close` or between two requests.
	Closed uint64 `json:"closed,omitempty"`
}

// Add adds another load's counts.
func (c *Counts) Add(o Counts) {
	c.Connects += o.Connects
	c.Answered += o.Answered
	c.Failed += o.Failed
	c.Lost += o.Lost
	c.Closed += o.Closed
}

// Load is a load that runs.
type Load struct {
	config  Config
	began   time.Time // times below are nanoseconds since then
	from    atomic.Int64
	until   atomic.Int64
	ending  atomic.Bool
	threads []*thread
	wg      sync.WaitGroup
}

// Longest is the longest latency that is recorded.
const Longest = time.Minute

// patience is how long Stop waits for the answers that are outstanding.
const patience = 2 * time.Second

// Start starts a load.
func Start(c Config) (*Load, error) {
	if !c.Address.Addr().Is4() {
		return nil, fmt.Errorf("load on %v: only IPv4 is known", c.Address)
	}
	if c.Connections < 1 || c.Threads < 1 || c.Rate < 0 || c.Echo < 0 {
		return nil, errors.New("load: no connections, no threads, or a rate or size below 0")
	}
	c.Threads = min(c.Threads, c.Connections)
	l := &Load{config: c, began: time.Now()}
	l.from.Store(math.MaxInt64)
	l.until.Store(math.MaxInt64)
	for i := range c.Threads {
		t, err := newThread(l, i)
		if err != nil {
			for _, t := range l.threads {
				t.close()
			}
			return nil, fmt.Errorf("load: %w", err)
		}
		l.threads = append(l.threads, t)
	}
	for _, t := range l.threads {
		l.wg.Go(t.run)
	}
	return l, nil
}

func (l *Load) now() int64 { return int64(time.Since(l.began)) }

// Record begins the window in which latencies are recorded: of requests that begin or are
// due in it.
func (l *Load) Record() { l.from.Store(l.now()) }

// EndRecord ends the window.
func (l *Load) EndRecord() { l.until.Store(l.now()) }

func (l *Load) recorded(started int64) bool {
	return started >= l.from.Load() && started < l.until.Load()
}

// Counts sums up what has been done so far.
func (l *Load) Counts() (sum Counts) {
	for _, t := range l.threads {
		sum.Add(Counts{t.connects.Load(), t.answered.Load(), t.failed.Load(), t.lost.Load(), t.shut.Load()})
	}
	return sum
}

// Result is the result of a load that has ended.
type Result struct {
	Counts
	Latency *hdrhistogram.Histogram // ns, from connect or due time to the answer's last byte; Longest if none came
	Late    *hdrhistogram.Histogram // ns, from due time to connect: the load's own delay
}

// Stop begins nothing more, except what was already due. It waits at most 2 s for
// outstanding answers, and returns when everything is closed.
func (l *Load) Stop() Result {
	l.ending.Store(true)
	l.wg.Wait()
	r := Result{Counts: l.Counts(), Latency: newHistogram(), Late: newHistogram()}
	for _, t := range l.threads {
		r.Latency.Merge(t.latency)
		r.Late.Merge(t.late)
	}
	return r
}

func newHistogram() *hdrhistogram.Histogram {
	const digits = 3
	return hdrhistogram.New(int64(time.Microsecond), int64(Longest), digits)
}
