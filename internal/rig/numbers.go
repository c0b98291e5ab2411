package rig

import (
	"fmt"
	"slices"
)

// Spread is the median of some values with the lowest and the highest.
type Spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
	N      int     `json:"n"` // values
}

// SpreadOf summarizes values; without any, N is 0.
func SpreadOf(values []float64) Spread {
	if len(values) == 0 {
		return Spread{}
	}
	v := slices.Sorted(slices.Values(values))
	n := len(v)
	return Spread{Median: (v[n/2] + v[(n-1)/2]) / 2, Min: v[0], Max: v[n-1], N: n}
}

// String returns the median, with the lowest and the highest if there are several values.
func (s Spread) String() string {
	if s.N < 2 {
		return s.Middle()
	}
	return fmt.Sprintf("%s (%s…%s)", number(s.Median), number(s.Min), number(s.Max))
}

// Middle returns the median alone.
func (s Spread) Middle() string {
	if s.N == 0 {
		return "–"
	}
	return number(s.Median)
}

func number(v float64) string {
	if v >= 100 || v <= -100 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.2f", v)
}
