package main

import (
	"fmt"
	"io"
	"math"
	"strings"

	"reuseportd/internal/rig"
)

// row is one quantity: its values in the rounds, by the name of who was measured.
type row struct {
	name, unit string
	values     map[string][]float64
	beside     []string // names that have no column
	aside      bool     // it explains the row above; no ratio is made of it
}

func newRow(name, unit string) row {
	return row{name: name, unit: unit, values: make(map[string][]float64)}
}

func (r row) add(name string, v float64) { r.values[name] = append(r.values[name], v) }

func (r row) median(name string) (float64, bool) {
	s := rig.SpreadOf(r.values[name])
	return s.Median, s.N > 0
}

// ratio is the first name's median by the least of the others'.
func (r row) ratio(names ...string) string {
	ours, ok := r.median(names[0])
	best := math.Inf(1)
	for _, name := range names[1:] {
		if v, ok := r.median(name); ok {
			best = min(best, v)
		}
	}
	// What is added to a latency may be nothing, within noise.
	if !ok || r.aside || math.IsInf(best, 1) || best <= 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f", ours/best)
}

// print writes Markdown.
func (b *bench) print(w io.Writer, rows []row) error {
	t := table{ours: b.proxies[0].Name}
	fmt.Fprintf(&t.text, "%s; %s", rig.Machine(), b.proxies[0].Version)
	for _, p := range b.proxies[1:] {
		t.rivals = append(t.rivals, p.Name)
		fmt.Fprintf(&t.text, "; %s", p.Version)
	}
	fmt.Fprintf(&t.text, "; %s; %s. %d workers or threads each; %d rounds of %v.\n\n",
		b.behind.iperf.Version, rig.WrkVersion(), workers, b.o.rounds, b.o.duration)
	t.add(rows)
	_, err := io.WriteString(w, t.text.String())
	return err
}

// table is Markdown: a row for each quantity, a column for each proxy.
type table struct {
	text   strings.Builder
	ours   string
	rivals []string
}

func (t *table) add(rows []row) {
	names := append([]string{t.ours}, t.rivals...)
	t.line(append(append([]string{"median (lowest…highest)", "unit"}, names...), "to the better", "beside"))
	t.text.WriteString("|" + strings.Repeat(" --- |", len(names)+4) + "\n")
	for _, r := range rows {
		cells := []string{r.name, r.unit}
		for _, name := range names {
			cells = append(cells, rig.SpreadOf(r.values[name]).String())
		}
		var beside []string
		for _, name := range r.beside {
			text := name + " " + rig.SpreadOf(r.values[name]).String()
			if ratio := r.ratio(t.ours, name); ratio != "–" && name != direct {
				text += ": " + ratio
			}
			beside = append(beside, text)
		}
		t.line(append(cells, r.ratio(names...), strings.Join(beside, "; ")))
	}
	t.text.WriteString("\nCPU time is utime + stime of all of a proxy's processes. To the better: " + t.ours +
		"'s median by the lower one of the rivals' columns; beside, by that one.\n" +
		"Memory is Private_Clean + Private_Dirty; what the kernel holds for the sockets is not in it.\n" +
		"Latency counts from when a request was due; added is what it is above the direct way in the same round.\n")
}

func (t *table) line(cells []string) {
	t.text.WriteString("| " + strings.Join(cells, " | ") + " |\n")
}
