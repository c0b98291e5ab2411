package acceptbench

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// grid is a table of text: the first columns to the left, the others to the
// right. It has a line of titles, and above it, if any, titles of groups.
type grid struct {
	left   int // columns
	groups []group
	rows   [][]string
}

// group is a title above columns, from the given one on.
type group struct {
	column int
	title  string
}

func (g *grid) row(cells ...string) { g.rows = append(g.rows, cells) }

func (g *grid) print(w io.Writer) {
	const gap = 2
	var widths, at []int
	for _, row := range g.rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	begin := 0
	for _, width := range widths {
		at = append(at, begin)
		begin += width + gap
	}
	if len(g.groups) > 0 {
		line := ""
		for _, group := range g.groups {
			// A title begins where its column does, or after the one before.
			line += strings.Repeat(" ", max(gap*min(1, len(line)), at[group.column]-utf8.RuneCountInString(line))) + group.title
		}
		fmt.Fprintln(w, strings.TrimRight(line, " "))
	}
	for _, row := range g.rows {
		line := ""
		for i, cell := range row {
			blank := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if i < g.left {
				line += cell + blank
			} else {
				line += blank + cell
			}
			line += strings.Repeat(" ", gap)
		}
		fmt.Fprintln(w, strings.TrimRight(line, " "))
	}
}
