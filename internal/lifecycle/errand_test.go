package lifecycle

import (
	"strings"
	"testing"
	"time"

	"reuseportd/internal/control"
	"reuseportd/internal/sandbox"
)

// release lets what hangs of a kind end, and more of it at once.
func (w *world) release(kind string) {
	delete(w.hangs, kind)
	late := w.late
	w.late = nil
	for _, f := range late {
		f()
	}
}

// TestReloadHangs: a change whose errand doesn't end is given up, at each of its steps; the next one is answered as
// well, and what comes late changes nothing.
func TestReloadHangs(t *testing.T) {
	for kind, says := range map[string]string{"configuration": "still reading", "logs": "still opening", "worker 0 of generation 2": "start worker 0: still opening"} {
		t.Run(kind, func(t *testing.T) {
			w := newWorld(t)
			conf := configure(2, 1, ports(t, 1)...)
			w.start(conf)
			w.settle()
			w.hangs = map[string]bool{kind: true}
			w.reload(conf)
			w.pass(conf.StartTimeout / 2)
			if len(w.answers) > 0 {
				t.Fatalf("answered at once: %+v", w.answers[0])
			}
			w.pass(conf.StartTimeout / 2)
			if len(w.answers) != 1 || w.answers[0].OK || !strings.Contains(w.answers[0].Error, says) {
				t.Fatalf("answers %+v", w.answers)
			}
			if w.core.refused != "" && kind == "configuration" {
				t.Errorf("refused, though nothing is known of the file: %s", w.core.refused)
			}
			w.release(kind)
			w.settle()
			if g := w.core.serving(); g.id != 1 {
				t.Errorf("generation %d serves after a change that failed", g.id)
			}
			w.reload(conf)
			w.settle()
			if r := w.answers[len(w.answers)-1]; !r.OK {
				t.Errorf("receipt %+v", r)
			}
		})
	}
}

// TestReplacementHangs: a worker that can't be started for now is tried again, and the others serve on.
func TestReplacementHangs(t *testing.T) {
	w := newWorld(t)
	conf := configure(2, 1, ports(t, 1)...)
	w.start(conf)
	w.settle()
	kind := "worker 0 of generation 1"
	w.hangs = map[string]bool{kind: true}
	w.procs[0].dead = true
	for wk := w.core.gens[0].workers[0]; wk.lastErr == ""; {
		for _, f := range w.actions() {
			f()
		}
		w.pass(time.Second)
		if st := w.core.Status().Groups[0].Workers[0]; w.core.now.Sub(wk.since) > time.Minute {
			t.Fatalf("the worker is not given up: %+v", st)
		}
	}
	if text := w.core.gens[0].workers[0].lastErr; !strings.Contains(text, sandbox.ErrNoAnswer.Error()) {
		t.Errorf("the worker's error is %q", text)
	}
	w.release(kind)
	w.settle() // and all have what they ought to have
}

// TestStopWhileHung: a stop doesn't wait for an errand.
func TestStopWhileHung(t *testing.T) {
	for kind, action := range map[string]string{"configuration": "reload", "logs": "reload", "binary": "upgrade"} {
		w := newWorld(t)
		w.start(configure(1, 1, ports(t, 1)...))
		w.settle()
		w.hangs = map[string]bool{kind: true}
		var answer control.Response
		w.handle(Request{Action: action, Asker: Asker{Tell: func(r control.Response) { answer = r }}})
		w.handle(Request{Action: "stop"})
		for range 1000 {
			for _, f := range w.actions() {
				f()
			}
			w.pass(20 * time.Millisecond)
		}
		if !w.exited || w.status != 0 || answer.Receipt == nil || answer.Receipt.OK {
			t.Errorf("%s: exited %v with status %d; answer %+v", kind, w.exited, w.status, answer.Receipt)
		}
		w.release(kind)
	}
}
