package upgrade

import (
	"fmt"
	"sync"
	"time"

	"reuseportd/internal/config"
	"reuseportd/internal/sandbox"
)

// What may wait for a file system that doesn't answer (NFS, FUSE, a dying disk) is an errand: a goroutine of its
// own does it, and the core goes on when it is done. The core gives it up after a time; what comes late is dropped.

const (
	// mostErrands bounds the errands that are under way, each of which may hold a thread.
	mostErrands = 64
	// mostAlike bounds those of one kind: the second one may succeed where the first one waits for ever for
	// what was mounted at the path before.
	mostAlike = 2
	// slow is when an errand is told of.
	slow = 2 * time.Second
)

// errand is one such piece of work.
type errand struct {
	kind  string // that it is counted with
	began time.Time
	told  bool // the log has said that it takes long

	mu   sync.Mutex
	what string // it does now
}

func newErrand(kind, what string, now time.Time) *errand {
	return &errand{kind: kind, what: what, began: now}
}

// at says what the errand does from here on, as in "reading /etc/a.yaml". A nil errand is nobody's.
func (e *errand) at(what string) {
	if e == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.what = what
}

func (e *errand) String() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.what
}

// overdue is why it is given up.
func (e *errand) overdue(now time.Time) error {
	return fmt.Errorf("still %s after %s: %w", e, now.Sub(e.began).Round(100*time.Millisecond), sandbox.ErrNoAnswer)
}

// errands are those under way. They are the coordinator's goroutine's.
type errands map[*errand]bool

// admit reports why one more can't begin.
func (es errands) admit(e *errand) error {
	alike := 0
	for other := range es {
		if other.kind == e.kind {
			alike++
		}
	}
	if alike < mostAlike && len(es) < mostErrands {
		es[e] = true
		return nil
	}
	return fmt.Errorf("still %s, %d earlier attempts among %d errands: %w", e, alike, len(es), sandbox.ErrNoAnswer)
}

// run begins an errand. then is called in a turn of the coordinator's, never before run has returned.
func run[T any](co *coordinator, e *errand, work func() (T, error), then func(T, error)) {
	if err := co.errands.admit(e); err != nil {
		go co.post(func() {
			var none T
			then(none, err)
		})
		return
	}
	go func() {
		v, err := work()
		co.post(func() {
			delete(co.errands, e)
			if e.told {
				co.log.Info().Dur("after", co.core.now.Sub(e.began)).Msgf("done with %s: the file system has answered", e)
			}
			then(v, err)
		})
	}()
}

// tellSlow has the log say what takes long, once.
func (co *coordinator) tellSlow() {
	for e := range co.errands {
		if !e.told && co.core.now.Sub(e.began) >= slow {
			e.told = true
			co.log.Warn().Msgf("still %s: %v; everything else goes on", e, sandbox.ErrNoAnswer)
		}
	}
}

// waiting is what `status` says of errands that take long.
func (co *coordinator) waiting() []string {
	var all []string
	for e := range co.errands {
		if age := co.core.now.Sub(e.began); age >= slow/2 {
			all = append(all, fmt.Sprintf("%s, for %s", e, age.Round(100*time.Millisecond)))
		}
	}
	return all
}

// Load implements host.
func (co *coordinator) Load(e *errand, then func(*config.Config, error)) {
	path := co.opts.ConfigPath
	e.at("reading " + path + " and looking at what it names")
	run(co, e, func() (*config.Config, error) { return load(path) }, then)
}

// OpenLogs implements host.
func (co *coordinator) OpenLogs(e *errand, c *config.Config, then func(*logFiles, error)) {
	run(co, e, func() (*logFiles, error) { return openLogs(e, c) }, then)
}

// Prepare implements host.
func (co *coordinator) Prepare(e *errand, w *worker, then func(*sandbox.Confinement, error)) {
	conf := w.gen.conf
	run(co, e, func() (*sandbox.Confinement, error) {
		_ = touch("/proc/self/exe")
		return confinement(conf)
	}, then)
}

// Touch implements host.
func (co *coordinator) Touch(e *errand, back *prior, then func(error)) {
	path := nextBinary(back)
	run(co, e, func() (struct{}, error) {
		_ = touch(path) // if it can't be read, it may be executed nevertheless
		return struct{}{}, nil
	}, func(_ struct{}, err error) { then(err) })
}
