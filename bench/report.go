package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
)

// row is one quantity: for each contender the rounds' values.
type row struct {
	name, unit string
	values     [][]float64
}

func newRow(name, unit string, contenders int) row {
	return row{name, unit, make([][]float64, contenders)}
}

func (r row) add(contender int, v float64) {
	r.values[contender] = append(r.values[contender], v)
}

// cell is the median, with the lowest and the highest if there are several.
func (r row) cell(contender int) string {
	v := slices.Clone(r.values[contender])
	if len(v) == 0 {
		return "–"
	}
	slices.Sort(v)
	median := (v[len(v)/2] + v[(len(v)-1)/2]) / 2
	if len(v) == 1 {
		return number(median)
	}
	return fmt.Sprintf("%s (%s…%s)", number(median), number(v[0]), number(v[len(v)-1]))
}

func number(v float64) string {
	if v >= 100 || v <= -100 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

func printMachine(all []*contender) {
	fmt.Printf("%d CPUs (%s), %s, %s\n", runtime.NumCPU(), cpuModel(), firstLine(exec.Command("uname", "-sr")), runtime.Version())
	for _, c := range all {
		fmt.Println(c.version)
	}
	fmt.Printf("%s\n\n", wrkVersion())
}

// wrkVersion is the first line of `wrk -v`, which ends with status 1.
func wrkVersion() string {
	out, _ := exec.Command("wrk", "-v").CombinedOutput()
	version, _, _ := strings.Cut(string(out), " Copyright")
	return strings.TrimSpace(version)
}

func cpuModel() string {
	data, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(data)) {
		if name, ok := strings.CutPrefix(line, "model name"); ok {
			return strings.TrimLeft(strings.TrimSpace(name), ": \t")
		}
	}
	return runtime.GOARCH
}

func printTable(rows []row, all []*contender) {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', 0)
	fmt.Fprint(w, "median (lowest…highest)\tunit")
	for _, c := range all {
		fmt.Fprintf(w, "\t%s", c.name)
	}
	fmt.Fprintln(w)
	for _, r := range rows {
		fmt.Fprintf(w, "%s\t%s", r.name, r.unit)
		for i := range all {
			fmt.Fprintf(w, "\t%s", r.cell(i))
		}
		fmt.Fprintln(w)
	}
	_ = w.Flush()
	fmt.Println("\nCPU time is utime + stime of all of a server's processes over the requests done.")
	fmt.Println("Memory is Private_Clean + Private_Dirty; what the kernel holds for a socket is not in it.")
}
