package acceptbench

import (
	"fmt"

	"reuseportd/internal/rig"
)

// Difference is how a figure's median differs from that of the base case.
type Difference struct {
	Percent float64 `json:"percent"`
	Verdict Verdict `json:"verdict"`
}

// Verdict says whether a difference is significant.
type Verdict string

// The verdicts.
const (
	Base    Verdict = "base"         // the case that others are compared with
	Noise   Verdict = "within noise" // the ranges of the rounds overlap
	Differs Verdict = "differs"      // every round of one is above every round of the other
	Unknown Verdict = "unknown"      // fewer rounds than enough
)

// enough is how many rounds a verdict needs. With n rounds of each, two equal cases have
// ranges that don't overlap in 2 of (2n choose n) runs: 1 of 10 with three rounds, 1 of
// 126 with five.
const enough = 3

// differ compares s with base.
func differ(base, s rig.Spread) Difference {
	d := Difference{Verdict: Unknown}
	if base.N == 0 || s.N == 0 {
		return d
	}
	if base.Median != 0 {
		d.Percent = 100 * (s.Median/base.Median - 1)
	}
	switch {
	case base.N < enough || s.N < enough:
	case s.Min <= base.Max && base.Min <= s.Max:
		d.Verdict = Noise
	default:
		d.Verdict = Differs
	}
	return d
}

// String returns a short form for a table.
func (d Difference) String() string {
	switch d.Verdict {
	case Base:
		return ""
	case Noise:
		return "≈"
	case Unknown:
		return "?"
	default:
		return fmt.Sprintf("%+.0f%%", d.Percent)
	}
}

// compared are the figures that get a verdict.
var compared = []struct{ load, key, title string }{
	{"churn", "rate", "connections/s"},
	{"churn", "cpu_us", "CPU µs, connection"},
	{"kept", "rate", "requests/s"},
	{"kept", "cpu_us", "CPU µs, request"},
	{"paced", "switches", "context switches/s"},
	{"paced", "p99_us", "p99 µs"},
}

// compare computes each case's differences from the first case of its model.
func (r *Result) compare() {
	base := make(map[string]*CaseResult)
	for i := range r.Cases {
		c := &r.Cases[i]
		first := base[c.Model]
		if first == nil {
			base[c.Model] = c
		}
		c.Differences = make(map[string]Difference)
		for _, f := range compared {
			switch {
			case c.load(f.load) == nil:
			case first == nil:
				c.Differences[f.load+"."+f.key] = Difference{Verdict: Base}
			default:
				c.Differences[f.load+"."+f.key] = differ(first.figure(f.load, f.key), c.figure(f.load, f.key))
			}
		}
	}
}
