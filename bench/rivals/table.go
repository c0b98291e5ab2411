package main

import (
	"fmt"
	"io"
	"strings"

	"reuseportd/internal/rig"
)

// table is Markdown: a row for each event, a column for each contender.
type table struct {
	all  []*contender
	rows []string
}

func newTable(all []*contender) *table { return &table{all: all} }

func (t *table) add(name string, cells []string) {
	t.rows = append(t.rows, "| "+name+" | "+strings.Join(cells, " | ")+" |")
}

func (t *table) print(w io.Writer) {
	fmt.Fprint(w, rig.Machine())
	for _, c := range t.all {
		fmt.Fprintf(w, "; %s", c.Version)
	}
	fmt.Fprint(w, ".\n\n| event |")
	for _, c := range t.all {
		fmt.Fprintf(w, " %s |", c.Name)
	}
	fmt.Fprintf(w, "\n|%s\n", strings.Repeat(" --- |", len(t.all)+1))
	for _, row := range t.rows {
		fmt.Fprintln(w, row)
	}
	fmt.Fprint(w, "\nLost: a request sent on a connection that the server then closed or reset without a whole answer. A client\n"+
		"that sends such a request again, as browsers do, has a delay and no error.\n"+
		"Closed: a connection that an answer with `Connection: close` ended; no request was lost by it.\n")
}

// outcome returns the result of a load in words.
func outcome(t rig.Tally) string {
	text := fmt.Sprintf("%d of %d lost", t.Lost, t.Answered+t.Lost)
	for _, more := range []struct {
		n    int
		what string
	}{{t.Closed, "closed"}, {t.Failed, "connects failed"}, {t.Slow, "connects took 1 s"}} {
		if more.n > 0 {
			text += fmt.Sprintf(", %d %s", more.n, more.what)
		}
	}
	return text
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "**no**"
}
