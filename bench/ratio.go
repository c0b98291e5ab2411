package main

import (
	"fmt"

	"reuseportd/internal/rig"
)

// ratios are, round by round, those of one contender's values to another's. There are none if a value is not above 0:
// what is added to a latency may be nothing, within noise.
func (f *figure) ratios(of, to string) []float64 {
	var all []float64
	a, b := f.Values[of], f.Values[to]
	for i := range min(len(a), len(b)) {
		if a[i] <= 0 || b[i] <= 0 {
			return nil
		}
		all = append(all, a[i]/b[i])
	}
	return all
}

// noisy reports whether the rounds disagree on who is better.
func noisy(ratio rig.Spread) bool { return ratio.Min < 1 && ratio.Max > 1 }

// ratioText is a ratio with its range, and with ≈ if that is within noise.
func ratioText(ratio rig.Spread) string {
	text := spreadText(ratio)
	if noisy(ratio) {
		text += " ≈"
	}
	return text
}

func spreadText(s rig.Spread) string {
	switch {
	case s.N == 0:
		return "–"
	case s.Min == s.Max:
		return s.Middle()
	}
	return fmt.Sprint(s)
}

// best returns the contender with the lowest median among names, "" if none has values.
func (f *figure) best(names []string) string {
	var who string
	var lowest float64
	for _, name := range names {
		if s := rig.SpreadOf(f.Values[name]); s.N > 0 && (who == "" || s.Median < lowest) {
			who, lowest = name, s.Median
		}
	}
	return who
}
