package acceptbench

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"reuseportd/internal/loadgen"
)

// made is the result of a run that never was: case i's figures grow with i.
func made(t *testing.T, o Options) *Result {
	t.Helper()
	if err := o.Settle(); err != nil {
		t.Fatal(err)
	}
	o.Rate, o.Version = 1000, "1.2 <&>"
	r := newResult(&o)
	for i := range r.Cases {
		for round := range 3 {
			n := uint64(1000*(i+1) + round)
			w := window{
				seconds: 1, counted: 1, done: n, serverCPU: time.Second, genCPU: time.Second, switches: n,
				counts:  Counts{Accepted: n, Wakeups: 4, Vain: 1},
				workers: make([]WorkerCounts, r.Cases[i].Workers),
				latency: percentiles{10, 20, 30}, latencies: 1, late: 1,
				load: loadgen.Counts{Connects: n, Answered: n}, seen: Counts{Accepted: n, Requests: n},
			}
			for k := range w.workers {
				w.workers[k] = WorkerCounts{Slot: k, Counts: Counts{Accepted: n, Wakeups: 4, Vain: 1}}
			}
			for _, load := range loads {
				if l := r.Cases[i].load(load); l != nil {
					l.add(&w)
				}
			}
		}
	}
	r.finish(time.Minute)
	return r
}

// With steering by CPU and more workers than CPUs the slow one may have nothing.
func TestSparedWorkerIsTold(t *testing.T) {
	r := made(t, Options{Steering: true, Loops: 4})
	const spared = "cpu: the slow worker got no connection"
	if text := strings.Join(r.Warnings, "\n"); strings.Contains(text, spared) {
		t.Error(text)
	}
	r.Cases[2].Paced.Workers[0].Accepted = 0
	r.warn()
	if text := strings.Join(r.Warnings, "\n"); !strings.Contains(text, spared) {
		t.Error(text)
	}
}

func TestTable(t *testing.T) {
	r := made(t, Options{Loops: 2, Only: []string{"reuseport", "shared"}, Models: []string{"processes", "threads"}})
	r.Cases[1].Churn.Load.Lost, r.Cases[1].Churn.Server.Accepted = 3, 1
	r.warn()
	var b bytes.Buffer
	r.Print(&b, true)
	for _, want := range []string{
		"strategy   model        conn/s", "paced, 1000 connections/s",
		"reuseport  2 processes    1001", "shared     2 threads      4001", "+100%", "≈",
		"! churn load", "the server has counted 1 connections", "3 requests were lost",
		"each worker under", "0-1", Explain,
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in:\n%s", want, b.String())
		}
	}
	for line := range strings.Lines(b.String()) {
		if strings.HasSuffix(line, " \n") {
			t.Errorf("blanks at the end of %q", line)
		}
	}
}

func TestSteeringTable(t *testing.T) {
	r := made(t, Options{Steering: true})
	r.Cases[3].Note = "not permitted here"
	var b bytes.Buffer
	r.Print(&b, false)
	for _, want := range []string{"p99 to hash", "load: not permitted here\n", "of which one stands still for 200ms", "1.00 ≈", ExplainSteering} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in:\n%s", want, b.String())
		}
	}
}

func TestJSON(t *testing.T) {
	data, err := json.Marshal(made(t, Options{Loops: 2}))
	if err != nil {
		t.Fatal(err)
	}
	var back Result
	if err := json.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	if len(back.Cases) != 15 || len(back.Cases[5].Paced.Workers) != 2 || back.Cases[1].Differences["churn.rate"].Verdict != Differs ||
		back.Cases[0].Differences["kept.rate"].Verdict != Base || back.Cases[0].Churn.Figures["rate"].N != 3 {
		t.Errorf("%s", data)
	}
}

func TestPlotIsXML(t *testing.T) {
	for _, o := range []Options{{Loops: 2}, {Steering: true}, {Loops: 3, Only: []string{"mutex"}, Models: []string{"single"}}} {
		r := made(t, o)
		var b bytes.Buffer
		if err := r.Plot(&b); err != nil {
			t.Fatal(err)
		}
		bars, texts := 0, ""
		d := xml.NewDecoder(&b)
		for {
			token, err := d.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			switch token := token.(type) {
			case xml.StartElement:
				if token.Name.Local == "rect" {
					bars++
				}
			case xml.CharData:
				texts += string(token)
			}
		}
		panels := len(strategyPanels)
		if o.Steering {
			panels = len(steeringPanels)
		}
		if want := 1 + panels*len(r.Cases); bars != want {
			t.Errorf("%d rectangles, want %d", bars, want)
		}
		if !strings.Contains(texts, "1.2 <&>") || !strings.Contains(texts, r.Cases[0].Name) {
			t.Errorf("texts: %s", texts)
		}
	}
	for _, name := range append(Strategies(), Steerings()...) {
		if colour(name) == "" {
			t.Errorf("%s has no colour", name)
		}
	}
}

func TestProgress(t *testing.T) {
	var b bytes.Buffer
	p := progress{w: &b, rounds: 2, total: 4, began: time.Now()}
	for i := range 4 {
		p.next(i/2+1, "x")
		p.step()
	}
	p.end()
	if b.String() != "round 1 of 2\nround 2 of 2\n" {
		t.Errorf("%q", b.String())
	}
	b.Reset()
	p = progress{w: &b, terminal: true, rounds: 2, total: 4, began: time.Now()}
	p.next(1, "x")
	p.step()
	p.next(1, "y")
	p.end()
	if !strings.Contains(b.String(), "[#####...............] round 1 of 2, y, ") || !strings.HasSuffix(b.String(), "\r\x1b[K") {
		t.Errorf("%q", b.String())
	}
}
