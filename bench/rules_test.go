package main

import (
	"errors"
	"strings"
	"testing"

	"reuseportd/internal/rig"
)

// figureOf is one with the rounds' values of some contenders.
func figureOf(values map[string][]float64) *figure {
	return &figure{Name: cpuOfRequest, Unit: "µs", Values: values}
}

func TestRatios(t *testing.T) {
	f := figureOf(map[string][]float64{
		ours: {2, 3, 4}, "slower": {4, 6, 10}, "alike": {1.5, 3, 5}, "failed early": {4}, "nothing": {1, -1, 2},
	})
	for to, want := range map[string]string{
		"slower":       "0.50 (0.40…0.50)",
		"alike":        "1.00 (0.80…1.33) ≈",
		"failed early": "0.50",
		"nothing":      "–",
		"not here":     "–",
	} {
		if got := ratioText(rig.SpreadOf(f.ratios(ours, to))); got != want {
			t.Errorf("to %s: %s, want %s", to, got, want)
		}
	}
	if got := f.best([]string{"slower", "not here", "alike"}); got != "alike" {
		t.Errorf("best is %s", got)
	}
	if got := f.best([]string{"not here"}); got != "" {
		t.Errorf("best of nobody is %s", got)
	}
}

func TestNoise(t *testing.T) {
	for _, c := range []struct {
		values []float64
		noisy  bool
	}{
		{[]float64{0.9, 1.1}, true},
		{[]float64{0.8, 0.9, 1}, false},
		{[]float64{1, 1.2}, false},
		{nil, false},
	} {
		if got := noisy(rig.SpreadOf(c.values)); got != c.noisy {
			t.Errorf("%v: %v", c.values, got)
		}
	}
}

func TestGoals(t *testing.T) {
	r := &report{Results: []*result{
		{Load: "kept", Figures: []*figure{figureOf(map[string][]float64{
			ours: {8, 8, 8}, "nginx": {10, 10, 10}, "HAProxy": {9, 20, 20}, "gnet": {7, 8, 9},
		})}},
		{Load: "churn", Failed: map[string]string{ours: "no"}},
		{Load: "bulk", Failed: map[string]string{"nginx": "no"}, Figures: []*figure{figureOf(map[string][]float64{
			ours: {8}, "nginx": {1}, "HAProxy": {10},
		})}},
	}}
	for _, c := range []struct {
		goal
		holds, to string
	}{
		{goal{load: "kept", rivals: []string{"nginx"}, bound: 0.8}, "yes", "nginx"},
		{goal{load: "kept", rivals: []string{"nginx"}, bound: 0.7}, "no", "nginx"},
		{goal{load: "kept", rivals: []string{"HAProxy", "nginx"}, bound: 0.8}, "yes", "nginx"},
		{goal{load: "kept", rivals: []string{"gnet"}, bound: 0.9}, "no, within noise", "gnet"},
		{goal{load: "kept", rivals: []string{"gnet"}, bound: 1.1, atLeast: true}, "no, within noise", "gnet"},
		{goal{load: "kept", rivals: []string{"nginx"}, bound: 1.1, atLeast: true}, "no", "nginx"},
		{goal{load: "kept", rivals: []string{floorName}, bound: 1}, "not measured", ""},
		{goal{load: "kept", rivals: []string{"HAProxy"}, bound: 0.8}, "yes, within noise", "HAProxy"},
		{goal{load: "kept", rivals: []string{"HAProxy"}, bound: 0.8, always: true}, "no", "HAProxy"},
		{goal{load: "kept", bound: 8, always: true}, "yes", ""},
		{goal{load: "kept", bound: 8}, "yes", ""},
		{goal{load: "kept", bound: 7}, "no", ""},
		{goal{load: "bulk", rivals: []string{"nginx", "HAProxy"}, bound: 0.8}, "yes", "HAProxy"},
		{goal{load: "churn", bound: 1}, "not measured: failed", ""},
		{goal{load: "memory", bound: 1}, "not measured", ""},
	} {
		c.figure = cpuOfRequest
		if v := c.judge(r); v.holds != c.holds || v.to != c.to {
			t.Errorf("%s, %s: %q of %q, want %q of %q", c.load, c.text(), v.holds, v.to, c.holds, c.to)
		}
	}
}

// What goals name is there to be measured.
func TestGoalsAreOfLoadsAndContenders(t *testing.T) {
	known := make(map[string]bool)
	for _, e := range entrants {
		known[e.name] = true
	}
	for _, g := range goals {
		if _, err := choose(g.load); err != nil {
			t.Error(err)
		}
		for _, name := range g.rivals {
			if !known[name] {
				t.Errorf("%s: there is no contender %s", g.load, name)
			}
		}
	}
}

func TestAdded(t *testing.T) {
	r := &result{Load: "proxied-latency", Contenders: []string{ours, direct}, Failed: map[string]string{}}
	r.add(ours, []reading{{"p50", "µs", 5, false}})
	r.add(ours, []reading{{"p50", "µs", 4, false}})
	r.add(direct, []reading{{"p50", "µs", 2, false}})
	r.add(direct, []reading{{"p50", "µs", 3, false}})
	added(r)
	f := r.figure("added to p50")
	if f == nil || len(f.Values) != 1 || f.Values[ours][0] != 3 || f.Values[ours][1] != 1 {
		t.Errorf("%+v", f)
	}
}

func TestTable(t *testing.T) {
	r := &result{
		Load: "kept", Title: "Requests", Rounds: 1, Duration: "2s",
		Contenders: []string{ours, "nginx", "h2o"}, Failed: map[string]string{},
	}
	for who, v := range map[string]float64{ours: 8, "nginx": 10} {
		r.add(who, []reading{{cpuOfRequest, "µs", v, false}, {requestRate, "/s", 1000, true}})
	}
	r.fail("h2o", errors.New("3 requests lost\nand more"))
	const want = `### Requests

` + "`-only kept`" + `: 1 round of 2s each.
h2o failed: 3 requests lost.

| median (lowest…highest) | unit | reuseportd | nginx | h2o |
| --- | --- | --- | --- | --- |
| request: CPU | µs | 8.00 | 10.00 | failed |
| ours to this |  | – | 0.80 | – |
| request: rate | /s | 1000 | 1000 | failed |
`
	if got := r.text(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	whole := (&report{Machine: "2 CPUs", Versions: []string{"a 1", "b 2"}, Results: []*result{r}}).all()
	for _, line := range []string{"2 CPUs; a 1; b 2.\n", "| kept | request: CPU | ≤ 0.9 × nginx | 0.80 | yes |\n", want} {
		if !strings.Contains(whole, line) {
			t.Errorf("no %q in\n%s", line, whole)
		}
	}
}
