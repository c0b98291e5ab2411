package main

import (
	"fmt"
	"io"

	"reuseportd/internal/rig"
)

// The table is Markdown: a row for each mode and server, printed as they end.
func printHead(w io.Writer, all []*contender, o options) {
	fmt.Fprint(w, rig.Machine())
	for _, c := range all {
		fmt.Fprintf(w, "; %s", c.Version)
	}
	fmt.Fprintf(w, ". %s, %d connections, %v a mode, %d workers.\n\n", slowPackage.Name, o.connections, o.duration, workers)
	fmt.Fprint(w, "| mode | server | held at most, at the end | probes | no answer | p50 ms | p99 ms | longest ms | seconds away | kernel out of memory | available throughout |\n"+
		"| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n")
}

func printRow(w io.Writer, m mode, c *contender, r result) {
	throughout := "yes"
	if !r.available() {
		throughout = "**no**"
		if r.probed.why != nil {
			throughout += " (" + r.probed.why.Error() + ")"
		}
	}
	p := r.probed
	fmt.Fprintf(w, "| %s | %s | %d, %d | %d | %d | %.2f | %.2f | %.0f | %d of %d | %d | %s |\n", m.name, c.Name, r.held.most, r.held.last,
		p.asked, p.failed, p.percentile(50), p.percentile(99), p.percentile(100), r.held.away, r.held.seconds, r.starved, throughout)
}
