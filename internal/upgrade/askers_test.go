package upgrade

import (
	"context"
	"os"
	"testing"

	"reuseportd/internal/control"
)

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
		a.Tell(control.Response{File: f})
		if resp := <-answered; resp.File != nil { // it was faster: the server closes it
			_ = resp.File.Close()
		}
		if n, err := r.Read(make([]byte, 1)); n != 0 || err == nil {
			t.Errorf("%d, %v: it is open", n, err)
		}
		_ = r.Close()
	}
}
