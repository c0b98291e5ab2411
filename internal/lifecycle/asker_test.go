package lifecycle

import (
	"testing"

	"reuseportd/internal/control"
)

// Clients that ask and go don't pile up behind a change that takes long, and nobody takes
// over for one that has gone.
func TestGoneAskersAreForgotten(t *testing.T) {
	w := newWorld(t)
	p := ports(t, 1)
	w.start(configure(2, 1, p[0]))
	w.settle()
	w.reload(configure(2, 1, p[0])) // in progress
	gone := make(chan struct{})
	close(gone)
	for range 1000 {
		for _, action := range []string{"reload", "upgrade", "takeover"} {
			w.handle(Request{Action: action, Asker: Asker{Tell: func(control.Response) {}, Left: gone}})
		}
		w.handle(AwaitDrained{2, Asker{Tell: func(control.Response) {}, Left: gone}})
	}
	for _, ch := range w.core.pending {
		if len(ch.waiting) > 1 || ch.action == "takeover" && ch.waiting[0].Waits() {
			t.Errorf("%d wait for a pending %s", len(ch.waiting), ch.action)
		}
	}
	if n := len(w.core.pending); n > 3 { // the last of each
		t.Errorf("%d changes wait", n)
	}
	if n := len(w.core.drained); n > 1 {
		t.Errorf("%d wait for a generation's end", n)
	}
}
