package acceptbench

import (
	"fmt"
	"io"

	"reuseportd/internal/rig"
)

// column is a figure of the table.
type column struct{ load, key, title string }

var strategyColumns = []column{
	{"churn", "rate", "conn/s"},
	{"churn", "cpu_us", "µs each"},
	{"churn", "cpu_percent", "CPU %"},
	{"kept", "rate", "req/s"},
	{"kept", "cpu_us", "µs each"},
	{"kept", "cpu_percent", "CPU %"},
	{"paced", "switches", "switches/s"},
	{"paced", "wakeups", "wake-ups/s"},
	{"paced", "accepts", "accepts/s"},
	{"paced", "failed_accepts", "failed/s"},
	{"paced", "useful_percent", "useful %"},
	{"paced", "p50_us", "p50"},
	{"paced", "p99_us", "p99"},
	{"paced", "p999_us", "p99.9"},
}

// Print writes the result for a person; with workers also what each worker has done.
func (r *Result) Print(w io.Writer, workers bool) {
	fmt.Fprintf(w, "%s\nreuseportd %s, %s of %.3g s for each case, %d s in all\n\n",
		r.Machine, r.Version, plural(r.Rounds, "round"), r.DurationMS/1000, int(r.Seconds+0.5))
	if r.Steering {
		r.printSteering(w)
	} else {
		r.printStrategies(w)
		r.printRanges(w)
	}
	if workers {
		r.printWorkers(w)
	}
	for _, text := range r.Warnings {
		fmt.Fprintf(w, "! %s\n", text)
	}
	if len(r.Warnings) > 0 {
		fmt.Fprintln(w)
	}
	if r.Steering {
		fmt.Fprint(w, ExplainSteering)
	} else {
		fmt.Fprint(w, Explain)
	}
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func (r *Result) printStrategies(w io.Writer) {
	g := grid{left: 2, groups: []group{{2, "churn"}, {5, "kept"}, {8, fmt.Sprintf("paced, %d connections/s; latencies in µs", r.Rate)}}}
	titles := []string{"strategy", "model"}
	for _, c := range strategyColumns {
		titles = append(titles, c.title)
	}
	g.row(titles...)
	for i := range r.Cases {
		c := &r.Cases[i]
		row := []string{c.Name, c.modelText()}
		for _, col := range strategyColumns {
			row = append(row, short(c.figure(col.load, col.key)))
		}
		g.row(row...)
	}
	g.print(w)
	fmt.Fprintln(w)
}

// modelText returns the model with its number of event loops.
func (c *CaseResult) modelText() string {
	if c.Loops() == 1 {
		return c.Model
	}
	return fmt.Sprintf("%d %s", c.Loops(), c.Model)
}

// short returns a median with as few digits as are significant.
func short(s rig.Spread) string {
	if s.N == 0 {
		return "–"
	}
	return digits(s.Median)
}

func digits(v float64) string {
	switch {
	case v >= 100 || v == 0:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}

// printRanges prints lowest…highest, and how each case differs from the first.
func (r *Result) printRanges(w io.Writer) {
	fmt.Fprintf(w, "lowest…highest, and the median's difference from %s of the same model; ≈ is within noise\n", r.Cases[0].Name)
	g := grid{left: 2}
	titles := []string{"strategy", "model"}
	for _, f := range compared {
		titles = append(titles, f.title, "")
	}
	g.row(titles...)
	for i := range r.Cases {
		c := &r.Cases[i]
		row := []string{c.Name, c.modelText()}
		for _, f := range compared {
			row = append(row, span(c.figure(f.load, f.key)), c.Differences[f.load+"."+f.key].String())
		}
		g.row(row...)
	}
	g.print(w)
	fmt.Fprintln(w)
}

func span(s rig.Spread) string {
	if s.N == 0 {
		return "–"
	}
	return digits(s.Min) + "…" + digits(s.Max)
}

// middle returns the median with the range.
func middle(s rig.Spread) string {
	if s.N == 0 {
		return short(s)
	}
	return short(s) + " (" + span(s) + ")"
}

func (r *Result) printSteering(w io.Writer) {
	fmt.Fprintf(w, "%d connections/s to %d workers, of which one stands still for %v in every second\n", r.Rate, r.Loops, stallFor)
	g := grid{left: 1, groups: []group{{1, "latency, µs: median (lowest…highest)"}, {5, "connections of a worker, %"}}}
	g.row("steering", "p50", "p99", "p99.9", "p99 to "+r.Cases[0].Name, "least", "most", "variation", "µs each")
	first := r.Cases[0].figure("paced", "p99_us")
	for i := range r.Cases {
		c := &r.Cases[i]
		at := func(key string) string { return short(c.figure("paced", key)) }
		p99 := c.figure("paced", "p99_us")
		g.row(c.Name, at("p50_us"), middle(p99), at("p999_us"), ratio(first, p99, c.Differences["paced.p99_us"]),
			at("least_share"), at("most_share"), at("variation"), at("cpu_us"))
	}
	g.print(w)
	for i := range r.Cases {
		if c := &r.Cases[i]; c.Note != "" {
			fmt.Fprintf(w, "%s: %s\n", c.Name, c.Note)
		}
	}
	fmt.Fprintln(w)
}

// ratio returns one median over another, with the verdict on the difference.
func ratio(base, s rig.Spread, d Difference) string {
	if base.Median == 0 || s.N == 0 {
		return "–"
	}
	text := fmt.Sprintf("%.2f", s.Median/base.Median)
	if d.Verdict == Noise || d.Verdict == Unknown {
		text += " " + d.String()
	}
	return text
}

// printWorkers shows what each worker has done under the paced load.
func (r *Result) printWorkers(w io.Writer) {
	fmt.Fprintln(w, "each worker under the paced load, all rounds")
	g := grid{left: 2}
	g.row("strategy", "model", "slot", "wake-ups", "in vain", "accepts", "failed")
	for i := range r.Cases {
		c := &r.Cases[i]
		for _, k := range c.Paced.Workers {
			slot := fmt.Sprint(k.Slot)
			if c.Threads > 1 {
				slot += fmt.Sprintf("-%d", k.Slot+c.Threads-1)
			}
			g.row(c.Name, c.modelText(), slot, fmt.Sprint(k.Wakeups), fmt.Sprint(k.Vain), fmt.Sprint(k.Accepted), fmt.Sprint(k.Empty+k.Failed))
		}
	}
	g.print(w)
	fmt.Fprintln(w)
}
