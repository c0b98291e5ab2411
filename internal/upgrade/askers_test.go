package upgrade

import (
	"context"
	"os"
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
			w.core.request(request{action: action, asker: asker{tell: func(control.Response) {}, left: gone}})
		}
		w.core.awaitDrained(2, asker{tell: func(control.Response) {}, left: gone})
	}
	for _, ch := range w.core.pending {
		if len(ch.waiting) > 1 || ch.action == "takeover" && ch.waiting[0].waits() {
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

// A custody channel for a client that has hung up meanwhile is closed, which ends the
// takeover.
func TestUnclaimedFileIsClosed(t *testing.T) {
	co := &coordinator{asks: make(chan ask)}
	for range 100 { // the answer and the hang-up cross
		r, f, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		gone := make(chan struct{})
		answered := make(chan control.Response)
		go func() { answered <- co.Handle(context.Background(), control.Request{Command: "takeover", Gone: gone}) }()
		a := <-co.asks
		go close(gone)
		a.tell(control.Response{File: f})
		if resp := <-answered; resp.File != nil { // it was faster: the server closes it
			_ = resp.File.Close()
		}
		if n, err := r.Read(make([]byte, 1)); n != 0 || err == nil {
			t.Errorf("%d, %v: it is open", n, err)
		}
		_ = r.Close()
	}
}
