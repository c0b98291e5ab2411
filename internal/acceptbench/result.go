package acceptbench

import (
	"time"

	"reuseportd/internal/loadgen"
	"reuseportd/internal/rig"
)

// Result is what `--json` prints.
type Result struct {
	Version string `json:"version"`
	Machine string `json:"machine"`
	CPUs    int    `json:"cpus"`
	// What was asked for, with defaults filled in.
	Steering    bool    `json:"steering"` // false: strategies were compared
	Loops       int     `json:"loops"`
	Rounds      int     `json:"rounds"`
	DurationMS  float64 `json:"duration_ms"`
	Connections int     `json:"connections"`
	Rate        int     `json:"rate"` // connections per second of the paced load

	Seconds  float64      `json:"seconds"` // duration of all
	Cases    []CaseResult `json:"cases"`
	Warnings []string     `json:"warnings"`
}

// CaseResult is what was measured of one case.
type CaseResult struct {
	Case
	Churn *LoadResult `json:"churn,omitempty"` // as fast as it goes, a connection for each request
	Kept  *LoadResult `json:"kept,omitempty"`  // as fast as it goes, on kept connections
	Paced *LoadResult `json:"paced,omitempty"` // a connection for each request, at a fixed rate
	// Differences are from the first case of the same model, by load and figure.
	Differences map[string]Difference `json:"differences,omitempty"`
	Note        string                `json:"note,omitempty"`
}

// LoadResult is one load on one case, all rounds.
type LoadResult struct {
	Figures map[string]rig.Spread `json:"figures"` // median, lowest and highest round, by metric
	Limit   Limit                 `json:"limit,omitempty"`
	Load    loadgen.Counts        `json:"load"`    // all that the load did, warming up included
	Server  Counts                `json:"server"`  // the same by the server's account
	Workers []WorkerCounts        `json:"workers"` // within the windows only

	values map[string][]float64
}

func (r *LoadResult) add(w *window) {
	if r.values == nil {
		r.values = make(map[string][]float64)
		r.Workers = make([]WorkerCounts, len(w.workers))
	}
	for _, m := range metrics {
		if v, ok := m.of(w); ok {
			r.values[m.key] = append(r.values[m.key], v)
		}
	}
	r.Load.Add(w.load)
	r.Server.add(w.seen)
	for i, k := range w.workers {
		r.Workers[i].Slot = k.Slot
		r.Workers[i].add(k.Counts)
	}
}

func (r *LoadResult) sum() {
	r.Figures = make(map[string]rig.Spread)
	for key, values := range r.values {
		r.Figures[key] = rig.SpreadOf(values)
	}
}

// load returns a load's result by the name that columns use.
func (c *CaseResult) load(name string) *LoadResult {
	switch name {
	case "churn":
		return c.Churn
	case "kept":
		return c.Kept
	default:
		return c.Paced
	}
}

// figure returns one figure of a case, without values if it wasn't measured.
func (c *CaseResult) figure(load, key string) rig.Spread {
	if r := c.load(load); r != nil {
		return r.Figures[key]
	}
	return rig.Spread{}
}

func newResult(o *Options) *Result {
	r := &Result{
		Version: o.Version, Machine: rig.Machine(), CPUs: cpus(), Steering: o.Steering,
		Loops: o.Loops, Rounds: o.Rounds, DurationMS: o.Duration.Seconds() * 1000,
		Connections: o.Connections, Rate: o.Rate, Warnings: []string{},
	}
	for _, c := range cases(o) {
		k := CaseResult{Case: c, Paced: new(LoadResult)}
		if !o.Steering {
			k.Churn, k.Kept = new(LoadResult), new(LoadResult)
		}
		r.Cases = append(r.Cases, k)
	}
	return r
}

// finish computes what is printed from all values.
func (r *Result) finish(took time.Duration) {
	r.Seconds = took.Seconds()
	for i := range r.Cases {
		c := &r.Cases[i]
		for _, load := range loads {
			if l := c.load(load); l != nil {
				l.sum()
				l.Limit = limitOf(r, c, load)
			}
		}
	}
	r.compare()
	r.warn()
}

var loads = []string{"churn", "kept", "paced"}
