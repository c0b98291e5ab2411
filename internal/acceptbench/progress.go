package acceptbench

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// progress shows how far the bench has come: on a terminal by a bar that is removed at
// the end, elsewhere by a line for each round.
type progress struct {
	w           io.Writer
	terminal    bool
	total, done int
	rounds      int
	round       int // the last one that was announced
	began       time.Time
}

// next announces what comes next.
func (p *progress) next(round int, what string) {
	if p.w == nil {
		return
	}
	if !p.terminal {
		if round != p.round {
			fmt.Fprintf(p.w, "round %d of %d\n", round, p.rounds)
		}
		p.round = round
		return
	}
	fmt.Fprintf(p.w, "\r\x1b[K%s round %d of %d, %s%s", bar(p.done, p.total), round, p.rounds, what, p.left())
}

// step counts a finished step.
func (p *progress) step() { p.done++ }

// end removes the bar.
func (p *progress) end() {
	if p.w != nil && p.terminal {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}

// left estimates how long the rest will take.
func (p *progress) left() string {
	if p.done == 0 {
		return ""
	}
	left := time.Since(p.began) / time.Duration(p.done) * time.Duration(p.total-p.done)
	return fmt.Sprintf(", %v left", left.Round(time.Second))
}

func bar(done, total int) string {
	const width = 20
	full := width * done / max(1, total)
	return "[" + strings.Repeat("#", full) + strings.Repeat(".", width-full) + "]"
}
