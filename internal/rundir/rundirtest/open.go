// Package rundirtest opens runtime directories for tests. It owns nothing. Code that is
// installed must never import it.
package rundirtest

import (
	"testing"

	"reuseportd/internal/rundir"
)

// Open opens a directory as a master does, until the test ends.
func Open(t testing.TB, path string) *rundir.Dir {
	t.Helper()
	d, err := rundir.Open(path, rundir.Options{Make: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}
