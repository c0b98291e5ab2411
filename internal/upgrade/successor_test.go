package upgrade

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A binary that can't be executed is told with what to do.
func TestUnfit(t *testing.T) {
	dir := t.TempDir()
	plain, fit := filepath.Join(dir, "plain"), filepath.Join(dir, "fit")
	for path, mode := range map[string]os.FileMode{plain: 0o644, fit: 0o755} {
		if err := os.WriteFile(path, nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]string{
		filepath.Join(dir, "none"): "there is no such file: put", dir: "it is a directory: put", plain: "it is not executable: chmod", fit: "",
	} {
		if got := unfit(path); !strings.HasPrefix(got, want) || want == "" && got != "" {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}
