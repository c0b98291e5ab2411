package main

import (
	"fmt"
	"slices"
	"strings"

	"reuseportd/internal/rig"
)

// Figures that goals are about.
const (
	cpuOfRequest        = "request: CPU"
	requestRate         = "request: rate"
	growth              = "the highest to that of 100 connections"
	duringToUndisturbed = "p99 during to undisturbed"
	requestsLost        = "requests lost, connects refused"
)

// goal is a bound of a figure.
type goal struct {
	load, figure string
	// rivals are whose value ours is divided by, round by round: of several, the one with the lowest median. If
	// there is none, the bound is of our value.
	rivals  []string
	bound   float64
	atLeast bool // or else at most
	always  bool // in every round
	unit    string
}

var goals = append([]goal{
	{load: "kept", figure: cpuOfRequest, rivals: []string{"nginx"}, bound: 0.90},
	{load: "kept", figure: cpuOfRequest, rivals: []string{"HAProxy"}, bound: 0.85},
	{load: "kept", figure: cpuOfRequest, rivals: []string{"gnet"}, bound: 0.85},
	{load: "kept", figure: cpuOfRequest, rivals: []string{floorName}, bound: 1.08},
	{load: "churn", figure: cpuOfRequest, rivals: []string{"nginx"}, bound: 0.95},
	{load: "churn", figure: cpuOfRequest, rivals: []string{floorName}, bound: 1.10},
	{load: "pipelined", figure: requestRate, rivals: []string{"nginx"}, bound: 2, atLeast: true},
	{load: "static", figure: "4 KiB: CPU", rivals: []string{"nginx", "nginx, sendfile off"}, bound: 1},
	{load: "static", figure: "1 MiB: CPU", rivals: []string{"nginx", "nginx, sendfile off"}, bound: 1},
	{load: "memory", figure: "kept connection: memory", bound: 256, unit: " bytes"},
	{load: "proxied", figure: cpuOfRequest, rivals: []string{"nginx", "HAProxy"}, bound: 0.9},
	{load: "bulk", figure: cpuOfGiB, rivals: []string{"nginx", "HAProxy"}, bound: 0.8},
	{load: "tls", figure: "on a kept connection: CPU", rivals: []string{"nginx"}, bound: 0.9},
	{load: "tls", figure: "on a fresh connection: CPU", rivals: []string{"nginx"}, bound: 0.85},
	{load: "tls", figure: "a file of 1 MiB: CPU", rivals: []string{"nginx"}, bound: 0.9},
	{load: "latency", figure: "p99", rivals: []string{"nginx", "HAProxy", "h2o", "gnet", "fasthttp", "net/http"}, bound: 1},
	{load: "reload", figure: duringToUndisturbed, bound: 1.5, unit: " ×"},
	{load: "reload", figure: requestsLost, bound: 0, always: true},
	{load: "reload-fresh", figure: requestsLost, bound: 0, always: true},
	{load: "reload-proxied", figure: requestsLost, bound: 0, always: true},
	{load: "reload-tcp", figure: requestsLost, bound: 0, always: true},
	{load: "scaling", figure: growth, bound: 1.10, unit: " ×"},
	{load: "scaling", figure: "100 connections: CPU", rivals: []string{"reuseportd, 1 loop"}, bound: 1.10},
	{load: "scaling", figure: "1000 connections: CPU", rivals: []string{"reuseportd, 1 loop"}, bound: 1.10},
	{load: "scaling", figure: "8000 connections: CPU", rivals: []string{"reuseportd, 1 loop"}, bound: 1.10},
}, slices.Concat(fair(), open())...)

// fair are the goals of the fairness load: each flood's against the server that did best in it.
func fair() (all []goal) {
	for _, f := range floods {
		to := "HAProxy"
		if f.door == doorFairFile {
			to = "nginx"
		}
		all = append(all, goal{load: "fairness", figure: f.name + ": probe p99", rivals: []string{to}, bound: 1})
	}
	return all
}

// open are the goals of the lockout load: nobody is locked out, and a reload at the limit loses nothing.
func open() (all []goal) {
	for _, when := range phases {
		all = append(all,
			goal{load: "lockout", figure: when + ": probe p99", rivals: []string{"nginx"}, bound: 1},
			goal{load: "lockout", figure: when + ": " + probesFailed, bound: 0, always: true})
	}
	return append(all,
		goal{load: "lockout", figure: arrivalsFailed, bound: 0, always: true},
		goal{load: "lockout", figure: endedByReload, bound: 0, always: true},
		goal{load: "lockout", figure: cutByReload, bound: 0, always: true})
}

// text is the bound in words.
func (g goal) text() string {
	sign := "≤"
	if g.atLeast {
		sign = "≥"
	}
	text := fmt.Sprintf("%s %.3g%s", sign, g.bound, g.unit)
	switch len(g.rivals) {
	case 0:
		return text
	case 1:
		return text + " × " + g.rivals[0]
	}
	return text + " × the best of " + strings.Join(g.rivals, ", ")
}

// verdict is the result for a goal.
type verdict struct {
	measured rig.Spread
	to       string // the rival that it is a ratio to, if it is one
	holds    string
}

// judge compares a goal with what was measured.
func (g goal) judge(r *report) verdict {
	one := r.result(g.load)
	if one == nil {
		return verdict{holds: "not measured"}
	}
	f := one.figure(g.figure)
	if one.Failed[ours] != "" || f == nil {
		return verdict{holds: "not measured: failed"}
	}
	if len(g.rivals) == 0 {
		s := rig.SpreadOf(f.Values[ours])
		return verdict{measured: s, holds: g.holds(s)}
	}
	to := f.best(slices.DeleteFunc(slices.Clone(g.rivals), func(name string) bool { return one.Failed[name] != "" }))
	s := rig.SpreadOf(f.ratios(ours, to))
	return verdict{measured: s, to: to, holds: g.holds(s)}
}

// holds goes by the median; if the bound is within the range the difference is noise.
func (g goal) holds(s rig.Spread) string {
	within := func(v float64) bool { return v <= g.bound }
	best, worst := s.Min, s.Max
	if g.atLeast {
		within, best, worst = func(v float64) bool { return v >= g.bound }, s.Max, s.Min
	}
	switch {
	case s.N == 0:
		return "not measured"
	case within(worst):
		return "yes"
	case g.always:
		return "no"
	case within(s.Median):
		return "yes, within noise"
	case within(best):
		return "no, within noise"
	}
	return "no"
}
