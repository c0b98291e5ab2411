package hostile

import (
	"fmt"
	"io"
	"slices"
	"sync"
	"text/tabwriter"

	"reuseportd/internal/wire"
)

// account is what was done, and what went wrong. Any goroutine may write to it.
type account struct {
	mu     sync.Mutex
	counts map[string]int
	faults []string
}

func (a *account) sent(who string, kind wire.Kind) { a.count(who + ": " + kind.String()) }

func (a *account) count(what string) { a.add(what, 1) }

func (a *account) add(what string, n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.counts[what] += n
}

// fault notes what must not be; a bounded number is kept.
func (a *account) fault(format string, args ...any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.faults) < 100 {
		a.faults = append(a.faults, fmt.Sprintf(format, args...))
	}
}

func (a *account) print(w io.Writer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var all []string
	for what := range a.counts {
		all = append(all, what)
	}
	slices.Sort(all)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, what := range all {
		fmt.Fprintf(t, "%s\t%d\n", what, a.counts[what])
	}
	_ = t.Flush() // w is memory
}
