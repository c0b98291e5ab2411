package main

import (
	"fmt"
	"strings"

	"reuseportd/internal/rig"
)

// machine is a paragraph on what was measured and where.
func (r *report) machine() string {
	return fmt.Sprintf("%s; %s.\n", r.Machine, strings.Join(r.Versions, "; "))
}

// goals is the machine and the table of goals.
func (r *report) goals() string {
	t := newTable("load", "figure", "goal", "measured: median (lowest…highest)", "holds")
	for _, g := range goals {
		v := g.judge(r)
		measured := spreadText(v.measured)
		if len(g.rivals) > 1 && v.to != "" {
			measured += " × " + v.to
		}
		t.line(g.load, g.figure, g.text(), measured, v.holds)
	}
	return r.machine() + "\n" + t.String()
}

// notes explain the tables.
const notes = `CPU is utime + stime of all of a server's processes; context switches are those of all their threads, of their own
will and not, but of threads that have ended. Memory is Private_Clean + Private_Dirty; what the kernel holds for a socket is not in it.
Latency counts from when a request was due. A rate is with the load on the same CPUs: where it fills them it is a
cost, too. "Ours to this" is made within each round, and ≈ says that the rounds disagree on who is better.
`

// all is everything.
func (r *report) all() string {
	text := r.goals() + "\n" + notes
	for _, one := range r.Results {
		text += "\n" + one.text()
	}
	return text
}

// text is a table with a row for each figure and one for the ratios, and a column for each contender.
func (r *result) text() string {
	t := newTable(append([]string{"median (lowest…highest)", "unit"}, r.Contenders...)...)
	for _, f := range r.Figures {
		cells, ratios := []string{f.Name, f.Unit}, []string{"ours to this", ""}
		for _, name := range r.Contenders {
			cells = append(cells, r.cell(f, name))
			ratio := "–"
			if name != ours && r.Failed[name] == "" && r.Failed[ours] == "" {
				ratio = ratioText(rig.SpreadOf(f.ratios(ours, name)))
			}
			ratios = append(ratios, ratio)
		}
		t.line(cells...)
		if !f.Aside {
			t.line(ratios...)
		}
	}
	text := fmt.Sprintf("### %s\n\n`-only %s`: %s of %s each.\n", r.Title, r.Load, count(r.Rounds, "round"), r.Duration)
	for _, name := range r.Contenders {
		if why := r.Failed[name]; why != "" {
			text += fmt.Sprintf("%s failed: %s.\n", name, oneLine(why))
		}
	}
	return text + "\n" + t.String()
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func (r *result) cell(f *figure, who string) string {
	if r.Failed[who] != "" {
		return "failed"
	}
	return spreadText(rig.SpreadOf(f.Values[who]))
}

// oneLine is the first line of a text, and not more of it than one reads.
func oneLine(text string) string {
	const longest = 200
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	if runes := []rune(line); len(runes) > longest {
		return string(runes[:longest]) + "…"
	}
	return line
}

// table is one of Markdown.
type table struct{ strings.Builder }

func newTable(head ...string) *table {
	t := new(table)
	t.line(head...)
	t.WriteString("|" + strings.Repeat(" --- |", len(head)) + "\n")
	return t
}

func (t *table) line(cells ...string) {
	t.WriteString("| " + strings.Join(cells, " | ") + " |\n")
}
