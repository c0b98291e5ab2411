package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
)

// figure is one number of each contender and round.
type figure struct {
	Name  string `json:"name"`
	Unit  string `json:"unit"`
	Aside bool   `json:"aside,omitempty"` // it explains others; no ratio is made of it
	// Values are the rounds' by contender. Those of one round stand at the same index, but of who has failed.
	Values map[string][]float64 `json:"values"`
}

// result is the result of a load.
type result struct {
	Load       string            `json:"load"`
	Title      string            `json:"title"`
	Rounds     int               `json:"rounds"`
	Duration   string            `json:"duration"`
	Contenders []string          `json:"contenders"` // who took part, in the order of columns
	Failed     map[string]string `json:"failed"`     // who did not come through it, and why
	Figures    []*figure         `json:"figures"`
}

func newResult(l load, o options, takers []*contender) *result {
	r := &result{Load: l.name, Title: l.title, Rounds: o.rounds, Duration: o.duration.String(), Failed: make(map[string]string)}
	for _, c := range takers {
		r.Contenders = append(r.Contenders, c.Name)
	}
	return r
}

func (r *result) fail(who string, err error) {
	if r.Failed[who] == "" {
		fmt.Fprintf(os.Stderr, "bench: %s: %s failed: %v\n", r.Load, who, err)
		r.Failed[who] = err.Error()
	}
}

func (r *result) add(who string, readings []reading) {
	for _, v := range readings {
		f := r.figure(v.figure)
		if f == nil {
			f = &figure{Name: v.figure, Unit: v.unit, Aside: v.aside, Values: make(map[string][]float64)}
			r.Figures = append(r.Figures, f)
		}
		f.Values[who] = append(f.Values[who], v.value)
	}
}

// figure returns the one of a name, nil if there is none.
func (r *result) figure(name string) *figure {
	for _, f := range r.Figures {
		if f.Name == name {
			return f
		}
	}
	return nil
}

// report is all that was measured on a machine.
type report struct {
	Machine  string    `json:"machine"`
	Versions []string  `json:"versions"`
	Results  []*result `json:"results"`
}

// result returns that of a load, nil if there is none.
func (r *report) result(load string) *result {
	for _, one := range r.Results {
		if one.Load == load {
			return one
		}
	}
	return nil
}

// put puts a result in the place of an earlier one of its load, and all in the order of the loads.
func (r *report) put(one *result) {
	r.Results = slices.DeleteFunc(r.Results, func(o *result) bool { return o.Load == one.Load })
	r.Results = append(r.Results, one)
	place := func(r *result) int { return slices.IndexFunc(loads, func(l load) bool { return l.name == r.Load }) }
	slices.SortStableFunc(r.Results, func(a, b *result) int { return place(a) - place(b) })
}

// merge takes over what an earlier report has. It must be of the same machine.
func (r *report) merge(earlier *report) error {
	if earlier.Machine != r.Machine {
		return fmt.Errorf("the earlier results are of another machine, so nothing is put beside them: %q, and this is %q", earlier.Machine, r.Machine)
	}
	for _, v := range earlier.Versions {
		if !slices.Contains(r.Versions, v) {
			r.Versions = append(r.Versions, v)
		}
	}
	r.Results = earlier.Results
	return nil
}

// readReport reads a file; if there is none it is nil.
func readReport(path string) (*report, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	r := new(report)
	if err := json.Unmarshal(data, r); err != nil {
		return nil, fmt.Errorf("%s is not what the bench wrote: %w: measure anew with -o and another path", path, err)
	}
	for _, one := range r.Results {
		if one == nil || slices.Contains(one.Figures, nil) {
			return nil, fmt.Errorf("%s has a result or a figure that is null: measure anew", path)
		}
	}
	return r, nil
}

// write replaces a file.
func (r *report) write(path string) error {
	data, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	next := path + ".next"
	if err := os.WriteFile(next, append(data, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(next, path)
}
