package main

import (
	"fmt"
	"io"
	"math"
	"text/tabwriter"

	"reuseportd/internal/rig"
)

// report is all rounds, by number of connections.
type report struct {
	Machine      string   `json:"machine"`
	Version      string   `json:"version"`
	Workers      int      `json:"workers"`
	Clients      int      `json:"clients"`
	DrainTimeout string   `json:"drain_timeout"`
	Groups       []*group `json:"results"`
}

// group is the rounds with one number of connections, and what they come to.
type group struct {
	Connections   int        `json:"connections"`
	HandedOver    rig.Spread `json:"handed_over"`
	Lost          int        `json:"lost"`
	Cut           uint64     `json:"cut"`
	Busy          rig.Tally  `json:"busy"`
	HandoverMS    rig.Spread `json:"handover_ms"`
	EachUS        rig.Spread `json:"handover_each_us"`
	GoneMS        rig.Spread `json:"gone_ms"`
	Undisturbed   rig.Spread `json:"p99_undisturbed_us"`
	During        rig.Spread `json:"p99_during_us"`
	DuringRatio   rig.Spread `json:"p99_during_ratio"`
	AfterCut      rig.Spread `json:"p99_after_cut_over_us"`
	AfterCutRatio rig.Spread `json:"p99_after_cut_over_ratio"`
	Rounds        []round    `json:"rounds"`
}

func newReport(o options, version string) *report {
	r := &report{
		Machine: rig.Machine(), Version: version,
		Workers: o.workers, Clients: o.clients, DrainTimeout: o.drain.String(),
	}
	for _, n := range o.sizes {
		r.Groups = append(r.Groups, &group{Connections: n})
	}
	return r
}

func (r *report) add(one round) {
	for _, g := range r.Groups {
		if g.Connections == one.Connections {
			g.Rounds = append(g.Rounds, one)
			g.sumUp()
			return
		}
	}
}

func (g *group) sumUp() {
	g.Lost, g.Cut, g.Busy = 0, 0, rig.Tally{}
	for _, r := range g.Rounds {
		g.Lost += r.Lost
		g.Cut += r.Cut
		g.Busy.Add(r.Busy)
	}
	g.HandedOver = g.spread(func(r round) float64 { return float64(r.HandedOver) })
	g.HandoverMS = g.handedOver(func(r round) float64 { return r.HandoverMS })
	g.EachUS = g.handedOver(func(r round) float64 { return r.HandoverMS * 1000 / float64(r.HandedOver) })
	g.GoneMS = g.spread(func(r round) float64 { return r.GoneMS })
	g.Undisturbed = g.spread(func(r round) float64 { return r.Undisturbed.P99 })
	g.During = g.spread(func(r round) float64 { return r.During.P99 })
	g.DuringRatio = g.spread(func(r round) float64 { return r.During.P99 / r.Undisturbed.P99 })
	g.AfterCut = g.spread(func(r round) float64 { return r.AfterCut.P99 })
	g.AfterCutRatio = g.spread(func(r round) float64 { return r.AfterCut.P99 / r.Undisturbed.P99 })
}

// spread leaves out what can't be divided: a window with no request in it.
func (g *group) spread(value func(round) float64) rig.Spread {
	var values []float64
	for _, r := range g.Rounds {
		if v := value(r); !math.IsNaN(v) && !math.IsInf(v, 0) {
			values = append(values, v)
		}
	}
	return rig.SpreadOf(values)
}

// handedOver is spread over the rounds in which anything was handed over.
func (g *group) handedOver(value func(round) float64) rig.Spread {
	return g.spread(func(r round) float64 {
		if r.HandedOver == 0 || r.HandoverMS == 0 {
			return math.NaN()
		}
		return value(r)
	})
}

func (r *report) print(w io.Writer) error {
	fmt.Fprintf(w, "%s\n%s, %d workers, %d busy clients, drain_timeout %s\n\n", r.Machine, r.Version, r.Workers, r.Clients, r.DrainTimeout)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "idle\thanded over\tlost\thandover, ms\teach, µs\told gone, ms\tp99 undisturbed, ms\tp99 during, ms\tratio\tp99 after cut-over, ms\tratio\tbusy lost\tclosed")
	for _, g := range r.Groups {
		fmt.Fprintf(tw, "%d\t%.0f\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t%d\n",
			g.Connections, g.HandedOver.Median, g.Lost, g.HandoverMS, g.EachUS.Middle(), g.GoneMS.Middle(),
			milli(g.Undisturbed), milli(g.During), g.DuringRatio.Middle(), milli(g.AfterCut), g.AfterCutRatio.Middle(),
			g.Busy.Lost, g.Busy.Closed)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	rounds := len(r.Groups[0].Rounds)
	fmt.Fprintf(w, "\n%s\n%s\n", r.linearity(), r.agreement())
	fmt.Fprintf(w, `
Medians of %d upgrades (lowest…highest); lost and closed are of all of them together.
Handed over: idle and busy connections, by the receipt. Lost: idle ones that did not answer one more request.
Handover: from the cut-over to the last acknowledgement. Old gone: from there to the old workers' end, as watched.
p99: of the busy clients' requests that were under way in a window, before the upgrade for as long as it took (undisturbed),
from its request to the old generation's end (during), and from the cut-over to that end.
`, rounds)
	return nil
}

// milli gives the median of microseconds in milliseconds.
func milli(s rig.Spread) string {
	s.Median /= 1000
	return s.Middle()
}

// linearity fits a line through the medians of handover over connections.
func (r *report) linearity() string {
	var xs, ys []float64
	for _, g := range r.Groups {
		if g.HandoverMS.N > 0 {
			xs = append(xs, g.HandedOver.Median)
			ys = append(ys, g.HandoverMS.Median)
		}
	}
	if len(xs) < 3 {
		return "Linearity: – (handover was reported for fewer than three numbers of connections)"
	}
	base, slope, r2 := fit(xs, ys)
	return fmt.Sprintf("Linearity: handover takes %.2f ms and %.2f µs for each connection (least squares, R² = %.3f)", base, slope*1000, r2)
}

// fit is the line y = base + slope·x of least squares, and how much of y's
// variance it explains.
func fit(xs, ys []float64) (base, slope, r2 float64) {
	n := float64(len(xs))
	var mx, my float64
	for i := range xs {
		mx += xs[i] / n
		my += ys[i] / n
	}
	var xx, xy, yy float64
	for i := range xs {
		dx, dy := xs[i]-mx, ys[i]-my
		xx += dx * dx
		xy += dx * dy
		yy += dy * dy
	}
	slope = xy / xx
	return my - slope*mx, slope, xy * xy / (xx * yy)
}

// agreement compares the server's account of the end with what was watched.
func (r *report) agreement() string {
	told, off := false, 0.0
	for _, g := range r.Groups {
		for _, one := range g.Rounds {
			if one.DrainedMS > 0 {
				told, off = true, max(off, math.Abs(one.DrainedMS-one.GoneMS))
			}
		}
	}
	if !told {
		return "The receipts don't tell when the old generation was gone."
	}
	return fmt.Sprintf("The receipts' end of the old generation differs from the watched one by %.1f ms at the most.", off)
}
