package meter

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Kind is a kind of client.
type Kind string

// The kinds of clients.
const (
	Fresh    Kind = "fresh"
	Kept     Kind = "kept"
	Halves   Kind = "halves"
	Pipeline Kind = "pipeline"
	Burst    Kind = "burst"
	Stream   Kind = "stream"
	Idle     Kind = "idle"
	Download Kind = "download"
)

// Kinds holds every kind in the order of a report.
var Kinds = []Kind{Fresh, Kept, Halves, Pipeline, Burst, Stream, Idle, Download}

// Phase is the step of an exchange in which it was lost.
type Phase string

// The phases of an exchange.
const (
	Connect  Phase = "connect"
	Write    Phase = "write"
	ReadHead Phase = "read head"
	ReadBody Phase = "read body" // of a stream: every read
	Pause    Phase = "pause"     // no request was under way
	Ending   Phase = "ending"    // the answer came, and the end of its connection with it
)

// fault is the error that ends an exchange, with the phase it was in.
type fault struct {
	phase Phase
	err   error
}

func (f *fault) Error() string { return string(f.phase) + ": " + f.err.Error() }
func (f *fault) Unwrap() error { return f.err }

// maxLosses bounds the losses of a kind that are kept in detail; all are counted.
const maxLosses = 1000

// slowConnect is what a connect takes when its SYN, or the last step of the
// handshake, had to be sent again: the first retransmission timeout is 1 s
// (RFC 6298 section 2).
const slowConnect = 900 * time.Millisecond

// tally is the account of one kind. Its clients share it.
type tally struct {
	m *Meter

	mu      sync.Mutex
	sum     Summary
	latency *hdrhistogram.Histogram // microseconds
	losses  []Loss
}

func newTally(m *Meter, kind Kind) *tally {
	return &tally{
		m:       m,
		sum:     Summary{Kind: kind},
		latency: hdrhistogram.New(1, time.Minute.Microseconds(), 3),
	}
}

func (t *tally) connected(took time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sum.Connections++
	t.sum.SlowestConnect = max(t.sum.SlowestConnect, took)
	if took >= slowConnect {
		t.sum.SlowConnects++
	}
}

func (t *tally) begun() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.sum.Connections > 0
}

// answered counts a request with its whole and right answer.
func (t *tally) answered(took time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sum.Requests++
	t.observe(took)
}

// observe records a latency that is not a request's of its own: one chunk of a
// stream. The caller holds mu or is answered.
func (t *tally) observe(took time.Duration) {
	us := min(max(took.Microseconds(), 1), time.Minute.Microseconds())
	// The value was fitted to the histogram's bounds, its only error.
	_ = t.latency.RecordValue(us)
}

func (t *tally) echoed(took time.Duration, bytes int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sum.Bytes += uint64(bytes)
	if took > 0 {
		t.observe(took)
	}
}

// finished counts a whole stream.
func (t *tally) finished() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sum.Requests++
}

var errEnded = errors.New("the server ended the connection by Connection: close")

// ended counts a connection that an answer with Connection: close ended
// unasked. When the measure is strict it is the fault of such an answer.
func (t *tally) ended() error {
	if t.m.cfg.Strict {
		return &fault{Ending, errEnded}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sum.Ended++
	return nil
}

func (t *tally) unanswered(n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sum.Unanswered += uint64(n)
}

// lost counts and describes n losses of one cause. local may be nil.
func (t *tally) lost(local net.Addr, err error, n int) {
	now := time.Now()
	l := Loss{Time: now, Kind: t.sum.Kind, Error: err.Error()}
	var f *fault
	if errors.As(err, &f) {
		l.Phase, l.Error = f.phase, strings.TrimPrefix(l.Error, string(f.phase)+": ")
	}
	if local != nil {
		l.Local = local.String()
	}
	t.m.mu.Lock()
	l.Mark, l.Since = t.m.mark, now.Sub(t.m.markAt)
	t.m.mu.Unlock()

	t.mu.Lock()
	defer t.mu.Unlock()
	t.sum.Lost += uint64(n)
	for range n {
		if len(t.losses) < maxLosses {
			t.losses = append(t.losses, l)
		}
	}
}

func (t *tally) result() (Summary, []Loss) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.sum
	us := func(v int64) time.Duration { return time.Duration(v) * time.Microsecond }
	s.P50 = us(t.latency.ValueAtQuantile(50))
	s.P99 = us(t.latency.ValueAtQuantile(99))
	s.Max = us(t.latency.Max())
	return s, t.losses
}

// Loss is one request, stream or kept connection that was lost.
type Loss struct {
	Time  time.Time
	Kind  Kind
	Phase Phase
	Local string // the client's address, to find it in a capture
	Error string
	Mark  string        // what was being done to the server,
	Since time.Duration // for so long
}

func (l Loss) String() string {
	return fmt.Sprintf("%s %s lost in %s, %v after %q, from %s: %s",
		l.Time.Format("15:04:05.000"), l.Kind, l.Phase, l.Since.Round(time.Millisecond), l.Mark, l.Local, l.Error)
}
