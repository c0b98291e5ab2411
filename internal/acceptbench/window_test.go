package acceptbench

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"reuseportd/internal/control"
	"reuseportd/internal/loadgen"
	"reuseportd/internal/rig"
	"reuseportd/internal/rundir/rundirtest"
)

// statusHandler answers with what is its status now.
type statusHandler struct{ atomic.Pointer[control.Status] }

func (h *statusHandler) Handle(context.Context, control.Request) control.Response {
	return control.Response{Status: h.Load()}
}

// masterWith is a master's control socket, with a server of two workers as the
// bench knows it.
func masterWith(t *testing.T) (*server, *statusHandler) {
	t.Helper()
	dir := t.TempDir()
	s := &server{run: dir, workers: 2, Server: &rig.Server{Log: filepath.Join(dir, "log")}}
	if err := os.WriteFile(s.Log, []byte("out of memory\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := control.Listen(rundirtest.Open(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	h, served := new(statusHandler), make(chan error, 1)
	go func() { served <- control.Serve(ctx, l, h) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return s, h
}

func statusOf(accepted uint64, pids ...int) *control.Status {
	g := control.Generation{State: "serving"}
	for slot, pid := range pids {
		g.Workers = append(g.Workers, control.Worker{PID: pid, Slot: slot, State: "serving", Totals: control.Totals{Accepted: accepted}})
	}
	return &control.Status{PID: 1, Groups: []control.Generation{g}}
}

// What is measured of fewer workers than there should be, or of others than at
// first, is an error and no figure.
func TestWorkersThatEnd(t *testing.T) {
	s, h := masterWith(t)
	h.Store(statusOf(100, 5, 6))
	start, err := s.snapshot(t.Context())
	if err != nil || start.at.IsZero() {
		t.Fatal(start, err)
	}
	h.Store(statusOf(150, 5, 6))
	if seen, err := s.settled(t.Context(), start, loadgen.Counts{Connects: 100}); err != nil || seen.Accepted != 100 {
		t.Error(seen, err)
	}
	h.Store(statusOf(3, 5, 7))
	if seen, err := s.settled(t.Context(), start, loadgen.Counts{}); err == nil || !strings.Contains(err.Error(), "worker 6 has been replaced") {
		t.Error(seen, err)
	}
	h.Store(statusOf(3, 5))
	if _, err := s.snapshot(t.Context()); err == nil || err.Error() != "1 of 2 workers serve\nout of memory" {
		t.Error(err)
	}
	if err := os.Remove(control.SocketPath(s.run)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.snapshot(t.Context()); err == nil || err.Error() != "the server has ended\nout of memory" {
		t.Error(err)
	}
}
