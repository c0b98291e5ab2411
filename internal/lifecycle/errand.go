package lifecycle

import (
	"fmt"
	"sync"
	"time"

	"reuseportd/internal/sandbox"
)

// What may wait for a file system that doesn't answer (NFS, FUSE, a dying disk) is an errand: it is done elsewhere, and the
// core goes on when it is done. The core gives it up after a time; what comes late is dropped.

// Slow is how long an errand takes, at least, that is told of, and that a second one like it is begun beside.
const Slow = 2 * time.Second

// Errand is one such piece of work.
type Errand struct {
	kind   string    // that it is counted with
	began  time.Time // to be waited for
	wanted func() bool
	then   func(value any, err error)

	mu   sync.Mutex
	what string // it does now
}

// NewErrand is one that the core knows nothing of. kind is what those are counted with that may hang for the same reason.
func NewErrand(kind, what string, now time.Time) *Errand {
	return &Errand{kind: kind, what: what, began: now}
}

// Kind returns what the errand is counted with.
func (e *Errand) Kind() string { return e.kind }

// Began returns since when the errand is waited for.
func (e *Errand) Began() time.Time { return e.began }

// While has the errand be patient: it is wanted while the function, which is called in a turn of the core's, says so.
func (e *Errand) While(wanted func() bool) { e.wanted = wanted }

// Patient reports whether it may begin later, where many are under way, or never, if it is not wanted by then.
func (e *Errand) Patient() bool { return e.wanted != nil }

// Wanted reports whether somebody still waits for it. It may be asked in a turn of the core's only.
func (e *Errand) Wanted() bool { return e.wanted == nil || e.wanted() }

// At says what the errand does from here on, as in "reading /etc/a.yaml". A nil errand is nobody's.
func (e *Errand) At(what string) {
	if e == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.what = what
}

func (e *Errand) String() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.what
}

// overdue is why it is given up.
func (e *Errand) overdue(now time.Time) error {
	return fmt.Errorf("still %s after %s: %w", e, now.Sub(e.began).Round(100*time.Millisecond), sandbox.ErrNoAnswer)
}

// await has f go on with the change in progress when the errand is done. lost is called with what comes when the change waits
// no more.
func await[T any](c *Core, ch *change, e *Errand, f func(T, error), lost func(T)) {
	e.then = func(value any, err error) {
		v, _ := value.(T)
		if c.change != ch || ch.errand != e {
			if lost != nil && err == nil {
				lost(v)
			}
			return
		}
		ch.errand = nil
		f(v, err)
	}
}
