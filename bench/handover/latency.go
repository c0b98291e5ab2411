package main

import (
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"reuseportd/internal/rig"
)

// window is a span of time with the latencies of the requests that were under
// way in it, in microseconds.
type window struct {
	MS       float64 `json:"ms"` // its length
	Requests int64   `json:"requests"`
	P50      float64 `json:"p50_us"`
	P99      float64 `json:"p99_us"`
	Max      float64 `json:"max_us"`
}

// latencies looks at a load that was stopped. A request counts if any part of
// it is in the window: one that began before and waited through it is the very
// one to be seen.
func latencies(load *rig.Load, from, to time.Time) window {
	h := hdrhistogram.New(int64(time.Microsecond), int64(time.Minute), 3)
	for s := range load.Samples() {
		if s.Sent.Before(to) && s.Sent.Add(s.Latency).After(from) {
			_ = h.RecordValue(min(int64(s.Latency), h.HighestTrackableValue()))
		}
	}
	us := func(v int64) float64 { return float64(v) / float64(time.Microsecond) }
	return window{
		MS:       ms(to.Sub(from)),
		Requests: h.TotalCount(),
		P50:      us(h.ValueAtQuantile(50)), P99: us(h.ValueAtQuantile(99)), Max: us(h.Max()),
	}
}
