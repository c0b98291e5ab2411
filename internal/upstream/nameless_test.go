package upstream

import (
	"slices"
	"testing"
)

// A name that was known before is no server that is missing, though it has not been looked up.
func TestNameless(t *testing.T) {
	b := newBoard(t)
	known := newSet(t, b, nil, named("app.test:80"))
	if got := known.Nameless(); !slices.Equal(got, []string{"app.test:80"}) {
		t.Errorf("before any answer: %v", got)
	}
	gives(known, monotonic(), "10.0.0.1")
	if got := known.Nameless(); len(got) != 0 {
		t.Errorf("after an answer: %v", got)
	}
	if got := newSet(t, reopened(t, b), nil, named("app.test:80")).Nameless(); len(got) != 0 {
		t.Errorf("in the next worker: %v", got)
	}
}
