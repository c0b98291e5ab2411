package upgrade

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"reuseportd/internal/config"
	"reuseportd/internal/material"
	"reuseportd/internal/sandbox"
)

// What may wait for a file system that doesn't answer (NFS, FUSE, a dying disk) is an errand: a goroutine of its
// own does it, and the core goes on when it is done. The core gives it up after a time; what comes late is dropped.

const (
	// mostErrands bounds the errands that are under way, each of which may hold a thread.
	mostErrands = 64
	// mostPatient bounds those among them of which there may be hundreds, one for each worker: the others wait for
	// their turn.
	mostPatient = 16
	// mostAlike bounds those of one kind: the second one may succeed where the first one waits for ever for
	// what was mounted at the path before.
	mostAlike = 2
	// slow is when an errand is told of.
	slow = 2 * time.Second
)

// errand is one such piece of work.
type errand struct {
	kind  string    // that it is counted with
	began time.Time // to be waited for
	since time.Time // under way
	told  bool      // the log has said that it takes long
	// wanted reports whether somebody still waits for it. One that has this is patient: where many are under way it
	// begins later, or never, if it is not wanted by then.
	wanted func() bool

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

// errands are those under way, and with what begins them those that wait for their turn. They are the coordinator's
// goroutine's.
type errands map[*errand]func()

// admit begins one more, now or when there is room, or reports why it can't begin.
func (es errands) admit(e *errand, begin func()) error {
	alike, underWay, patient := 0, 0, 0
	for other, waits := range es {
		if waits != nil && !other.wanted() {
			delete(es, other)
			continue
		}
		if other.kind == e.kind {
			alike++
		}
		if waits == nil {
			underWay++
			if other.wanted != nil {
				patient++
			}
		}
	}
	switch {
	case alike >= mostAlike, e.wanted == nil && underWay >= mostErrands:
		return fmt.Errorf("still %s, %d earlier attempts among %d errands: %w", e, alike, underWay, sandbox.ErrNoAnswer)
	case e.wanted != nil && patient >= mostPatient:
		es[e] = begin
	default:
		es[e] = nil
		begin()
	}
	return nil
}

// done forgets one that is over, and begins the one that has waited longest.
func (es errands) done(e *errand) {
	delete(es, e)
	if e.wanted == nil {
		return
	}
	var next *errand
	for other, waits := range es {
		switch {
		case waits == nil:
		case !other.wanted():
			delete(es, other)
		case next == nil || other.began.Before(next.began):
			next = other
		}
	}
	if next != nil {
		begin := es[next]
		es[next] = nil
		begin()
	}
}

// run begins an errand. then is called in a turn of the coordinator's, never before run has returned; but not of one that
// is not wanted before it has begun.
func run[T any](co *coordinator, e *errand, work func() (T, error), then func(T, error)) {
	begin := func() {
		e.since = co.core.now
		go func() {
			v, err := work()
			co.post(func() {
				co.errands.done(e)
				if e.told {
					co.log.Info().Dur("after", co.core.now.Sub(e.since)).Msgf("done with %s: the file system has answered", e)
				}
				then(v, err)
			})
		}()
	}
	if err := co.errands.admit(e, begin); err != nil {
		go co.post(func() {
			var none T
			then(none, err)
		})
	}
}

// tellSlow has the log say what takes long, once.
func (co *coordinator) tellSlow() {
	for e, waits := range co.errands {
		if waits == nil && !e.told && co.core.now.Sub(e.since) >= slow {
			e.told = true
			co.log.Warn().Msgf("still %s: %v; everything else goes on", e, sandbox.ErrNoAnswer)
		}
	}
}

// waiting is what `status` says of errands that take long.
func (co *coordinator) waiting() []string {
	var all []string
	for e, waits := range co.errands {
		if waits != nil {
			continue
		}
		if age := co.core.now.Sub(e.since); age >= slow/2 {
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

// ReadMaterials implements host.
func (co *coordinator) ReadMaterials(e *errand, c *config.Config, then func([]material.Read, error)) {
	user := c.Credential.SandboxUser()
	wants := wantsOf(c)
	run(co, e, func() ([]material.Read, error) {
		reads := make([]material.Read, len(wants))
		for i, w := range wants {
			e.at("reading " + strings.Join(w.Paths, " and "))
			reads[i] = w.Load(user)
		}
		return reads, nil
	}, then)
}

// WatchMaterials implements host.
func (co *coordinator) WatchMaterials(paths []string) {
	if co.fileWatcher == nil {
		if len(paths) == 0 {
			return
		}
		ctx, cancel := context.WithCancel(context.Background())
		co.unwatchFiles = cancel
		co.fileWatcher = material.Watch(ctx, func() { co.post(co.core.materialsChanged) })
	}
	co.fileWatcher.Set(paths)
}

// Later implements host.
func (co *coordinator) Later(d time.Duration, f func()) {
	time.AfterFunc(d, func() { co.post(f) })
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
