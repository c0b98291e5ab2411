package acceptbench

import (
	"math"
	"time"
)

// metric is a figure that a window may have.
type metric struct {
	key string // in JSON
	of  func(w *window) (float64, bool)
}

func perSecond(count func(w *window) uint64) func(*window) (float64, bool) {
	return func(w *window) (float64, bool) { return float64(count(w)) / w.seconds, w.seconds > 0 }
}

// counted is perSecond of the server's own counts.
func counted(count func(c Counts) uint64) func(*window) (float64, bool) {
	return func(w *window) (float64, bool) { return float64(count(w.counts)) / w.counted, w.counted > 0 }
}

func percent(part func(w *window) time.Duration) func(*window) (float64, bool) {
	return func(w *window) (float64, bool) { return 100 * part(w).Seconds() / w.seconds, w.seconds > 0 }
}

func latency(value func(p percentiles) float64) func(*window) (float64, bool) {
	return func(w *window) (float64, bool) { return value(w.latency), w.latencies > 0 }
}

// metrics are all of them. Rates are per second. Percentages are of one CPU, except
// useful_percent, which is of the wake-ups, and the shares, which are of the accepted
// connections.
var metrics = []metric{
	{"rate", perSecond(func(w *window) uint64 { return w.done })},
	{"cpu_us", func(w *window) (float64, bool) {
		return float64(w.serverCPU) / float64(time.Microsecond) / float64(w.done), w.done > 0
	}},
	{"cpu_percent", percent(func(w *window) time.Duration { return w.serverCPU })},
	{"switches", perSecond(func(w *window) uint64 { return w.switches })},
	{"wakeups", counted(func(c Counts) uint64 { return c.Wakeups })},
	{"accepts", counted(func(c Counts) uint64 { return c.Accepted })},
	{"failed_accepts", counted(func(c Counts) uint64 { return c.Empty + c.Failed })},
	{"useful_percent", func(w *window) (float64, bool) {
		c := w.counts
		return 100 * (1 - float64(c.Vain)/float64(c.Wakeups)), c.Wakeups > 0
	}},
	{"p50_us", latency(func(p percentiles) float64 { return p.p50 })},
	{"p99_us", latency(func(p percentiles) float64 { return p.p99 })},
	{"p999_us", latency(func(p percentiles) float64 { return p.p999 })},
	{"late_us", func(w *window) (float64, bool) { return w.late, w.late > 0 }},
	{"generator_percent", percent(func(w *window) time.Duration { return w.genCPU })},
	{"idle_percent", percent(func(w *window) time.Duration { return w.idle })},
	{"least_share", func(w *window) (float64, bool) { s := sharesOf(w.workers); return s.least, s.ok }},
	{"most_share", func(w *window) (float64, bool) { s := sharesOf(w.workers); return s.most, s.ok }},
	{"variation", func(w *window) (float64, bool) { s := sharesOf(w.workers); return s.variation, s.ok }},
}

// shares are how evenly connections were spread over workers.
type shares struct {
	least, most float64 // percent of all
	variation   float64 // standard deviation over mean
	ok          bool
}

func sharesOf(workers []WorkerCounts) shares {
	var sum, square float64
	least, most := math.Inf(1), 0.0
	for _, w := range workers {
		v := float64(w.Accepted)
		sum, square = sum+v, square+v*v
		least, most = min(least, v), max(most, v)
	}
	if sum == 0 {
		return shares{}
	}
	n := float64(len(workers))
	mean := sum / n
	deviation := math.Sqrt(max(0, square/n-mean*mean))
	return shares{100 * least / sum, 100 * most / sum, deviation / mean, true}
}
