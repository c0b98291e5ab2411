package acceptbench

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"
)

// panel is one figure of the drawing.
type panel struct{ load, key, title string }

var strategyPanels = []panel{
	{"churn", "rate", "churn: connections/s"},
	{"churn", "cpu_us", "churn: server CPU, µs a connection"},
	{"kept", "rate", "kept: requests/s"},
	{"kept", "cpu_us", "kept: server CPU, µs a request"},
	{"paced", "wakeups", "paced: wake-ups/s"},
	{"paced", "failed_accepts", "paced: failed accepts/s"},
	{"paced", "switches", "paced: context switches/s"},
	{"paced", "p99_us", "paced: p99, µs"},
}

var steeringPanels = []panel{
	{"paced", "p50_us", "p50, µs"},
	{"paced", "p99_us", "p99, µs"},
	{"paced", "p999_us", "p99.9, µs"},
	{"paced", "variation", "variation of connections over workers"},
}

// Measures of the drawing in pixels.
const (
	panelWidth = 580
	labelWidth = 200
	valueWidth = 80
	barHeight  = 15
	barStep    = 19
	groupGap   = 8
	titleSpace = 34
	margin     = 20
	headSpace  = 66
)

// Plot draws the table as SVG: a panel for each figure, a bar for each median
// with the range from the lowest to the highest round.
func (r *Result) Plot(to io.Writer) error {
	panels, title, under := strategyPanels, "Ways to accept", ""
	if r.Steering {
		panels, title = steeringPanels, "Ways to steer, with a slow worker"
		under = fmt.Sprintf("%d workers; ", r.Loops)
	}
	height := r.panelHeight()
	rows := (len(panels) + 1) / 2
	d := drawing{}
	width, total := 2*panelWidth+3*margin, headSpace+rows*(height+margin)+margin
	d.add(`<svg xmlns="http://www.w3.org/2000/svg" width="%[1]d" height="%[2]d" viewBox="0 0 %[1]d %[2]d" font-family="sans-serif" font-size="12">`, width, total)
	d.add(`<rect width="%d" height="%d" fill="#ffffff"/>`, width, total)
	d.text(margin, 30, "start", `font-size="18" font-weight="bold"`, title)
	d.text(margin, 50, "start", `fill="#555555"`, fmt.Sprintf("%s; reuseportd %s; %spaced at %d connections/s; median of %s, line: lowest to highest",
		r.Machine, r.Version, under, r.Rate, plural(r.Rounds, "round")))
	for i, p := range panels {
		r.panel(&d, p, margin+i%2*(panelWidth+margin), headSpace+i/2*(height+margin))
	}
	d.add("</svg>")
	_, err := io.WriteString(to, d.String())
	return err
}

func (r *Result) panelHeight() int {
	groups := 0
	for i := range r.Cases {
		if r.beginsGroup(i) {
			groups++
		}
	}
	return titleSpace + len(r.Cases)*barStep + groups*groupGap
}

// beginsGroup reports whether the case is the first one of its model.
func (r *Result) beginsGroup(i int) bool { return i == 0 || r.Cases[i].Model != r.Cases[i-1].Model }

func (r *Result) panel(d *drawing, p panel, x, y int) {
	most := 0.0
	for i := range r.Cases {
		most = max(most, r.Cases[i].figure(p.load, p.key).Max)
	}
	d.text(x, y+16, "start", `font-size="14" font-weight="bold"`, p.title)
	left, room := x+labelWidth, float64(panelWidth-labelWidth-valueWidth)
	at := func(v float64) float64 {
		if most == 0 {
			return float64(left)
		}
		return float64(left) + v/most*room
	}
	top := y + titleSpace - barStep/2
	for i := range r.Cases {
		c := &r.Cases[i]
		if r.beginsGroup(i) && i > 0 {
			top += groupGap
		}
		s := c.figure(p.load, p.key)
		middle := float64(top) + barHeight/2.0
		label := c.Name
		if !r.Steering {
			label += ", " + c.modelText()
		}
		d.text(left-6, top+12, "end", "", label)
		d.add(`<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/>`, left, top, at(s.Median)-float64(left), barHeight, colour(c.Name))
		if s.N > 1 {
			d.add(`<path d="M%.1f %.1fH%.1fM%.1f %.1fv8M%.1f %.1fv8" stroke="#222222" fill="none"/>`,
				at(s.Min), middle, at(s.Max), at(s.Min), middle-4, at(s.Max), middle-4)
		}
		d.text(int(max(at(s.Max), at(s.Median)))+6, top+12, "start", `fill="#333333"`, short(s))
		top += barStep
	}
	d.add(`<path d="M%d %dV%d" stroke="#888888"/>`, left, y+titleSpace-barStep/2-3, top)
}

// colours are those of the strategies and steerings. They can be told apart without
// colour vision, too (Okabe and Ito).
var colours = map[string]string{
	"reuseport": "#0072b2", combined: "#56b4e9", "exclusive": "#009e73", "mutex": "#e69f00", "shared": "#d55e00",
	"hash": "#0072b2", "random": "#56b4e9", "cpu": "#009e73", "load": "#d55e00",
}

func colour(name string) string { return colours[name] }

// drawing is the text of an SVG file.
type drawing struct{ strings.Builder }

func (d *drawing) add(format string, args ...any) { fmt.Fprintf(d, format+"\n", args...) }

func (d *drawing) text(x, y int, anchor, attributes, text string) {
	var escaped strings.Builder
	_ = xml.EscapeText(&escaped, []byte(text)) // a Builder never fails
	d.add(`<text x="%d" y="%d" text-anchor="%s" %s>%s</text>`, x, y, anchor, attributes, escaped.String())
}
