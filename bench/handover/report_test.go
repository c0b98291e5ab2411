package main

import (
	"math"
	"strings"
	"testing"
	"time"
)

func TestFit(t *testing.T) {
	base, slope, r2 := fit([]float64{1, 2, 4}, []float64{5, 7, 11})
	for i, got := range []float64{base - 3, slope - 2, r2 - 1} {
		if math.Abs(got) > 1e-9 {
			t.Errorf("value %d is off by %g", i, got)
		}
	}
}

func TestReport(t *testing.T) {
	r := newReport(options{sizes: sizes{100, 200, 400}, rounds: 1, clients: 1, workers: 2, drain: time.Second}, "test")
	for _, n := range []int{400, 100, 200} {
		r.add(round{
			Connections: n, HandedOver: uint64(n), HandoverMS: 1 + float64(n)/500, DrainedMS: 9, GoneMS: 10.5,
			Undisturbed: window{P99: 1000}, During: window{P99: 1500},
		})
	}
	var b strings.Builder
	if err := r.print(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"1.00 ms and 2.00 µs for each connection (least squares, R² = 1.000)", "by 1.5 ms at the most", "1.50 "} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in:\n%s", want, b.String())
		}
	}
}

func TestSizes(t *testing.T) {
	var s sizes
	if err := s.Set("10, 20"); err != nil || s.String() != "10 20" {
		t.Errorf("%s, %v", &s, err)
	}
	if s.Set("10,x") == nil || s.Set("0") == nil {
		t.Error("nonsense is taken")
	}
}
