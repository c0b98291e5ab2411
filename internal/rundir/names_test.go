package rundir

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// A runtime directory may be called what would be a pattern: it is itself, and no other.
func TestNames(t *testing.T) {
	base := t.TempDir()
	for _, dir := range []string{"rt[1]x", "rt1x", "rt[x", "*?"} {
		path := filepath.Join(base, dir)
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"worker-" + dir + ".sock", "worker-.sock", "worker-1.lock", "other-1.sock"} {
			if err := os.WriteFile(filepath.Join(path, name), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, dir := range []string{"rt[1]x", "rt1x", "rt[x", "*?"} {
		got, err := open(t, filepath.Join(base, dir)).Names("worker-", ".sock")
		want := []string{"worker-.sock", "worker-" + dir + ".sock"}
		slices.Sort(got)
		slices.Sort(want)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("in %s: %q, error %v", dir, got, err)
		}
	}
}
