package lifecycle

import (
	"slices"

	"reuseportd/internal/control"
)

// Asker is who waits for an answer.
type Asker struct {
	Tell func(control.Response)
	Left <-chan struct{} // closed when it waits no more; nil is never
}

// Waits reports whether it still waits.
func (a Asker) Waits() bool {
	select {
	case <-a.Left:
		return false
	default:
		return true
	}
}

// join adds askers to those of the same change, and forgets who waits no more: clients
// that ask and go, again and again, must not pile up behind a long change.
func join(to []Asker, more ...Asker) []Asker {
	return append(slices.DeleteFunc(to, func(a Asker) bool { return !a.Waits() }), more...)
}
