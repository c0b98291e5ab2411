package main

import (
	"fmt"
	"os"
	"text/tabwriter"

	"reuseportd/internal/rig"
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

func printMachine(all []contender) {
	fmt.Println(rig.Machine())
	var told string
	for _, c := range all {
		if c.Version != told {
			fmt.Println(c.Version)
		}
		told = c.Version
	}
	fmt.Printf("%s\n\n", rig.WrkVersion())
}

func printTable(rows []row, all []contender) {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', 0)
	fmt.Fprint(w, "median (lowest…highest)\tunit")
	for _, c := range all {
		fmt.Fprintf(w, "\t%s", c.Name)
	}
	fmt.Fprintln(w)
	for _, r := range rows {
		fmt.Fprintf(w, "%s\t%s", r.name, r.unit)
		for i := range all {
			fmt.Fprintf(w, "\t%s", rig.SpreadOf(r.values[i]))
		}
		fmt.Fprintln(w)
	}
	_ = w.Flush()
	fmt.Println("\nCPU time is utime + stime of all of a server's processes over the requests done.")
	fmt.Println("Memory is Private_Clean + Private_Dirty; what the kernel holds for a socket is not in it.")
}
