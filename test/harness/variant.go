package harness

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// CrashFile is the failpoint whose arming ends every worker of a BuildCrashing
// binary, and of no other.
const CrashFile = "crash"

// crashing is an additional source file, by which a worker crashes when a test tells it
// to, as if it had met a bug.
const crashing = `package worker

import (
	"os"
	"path/filepath"
	"time"
)

func init() {
	if len(os.Args) < 2 || os.Args[1] != "worker" {
		return
	}
	go func() {
		for range time.Tick(5 * time.Millisecond) {
			if _, err := os.Stat(filepath.Join(os.Getenv("REUSEPORTD_FAILPOINT_DIR"), "` + CrashFile + `")); err == nil {
				os.Exit(9)
			}
		}
	}()
}
`

// BuildCrashing returns the path of a binary of the version "crashing", with the
// bug that CrashFile brings out.
func BuildCrashing(t testing.TB) string {
	t.Helper()
	return buildOnce(t, "crashing", func() ([]string, error) {
		source := filepath.Join(scratch, "crashing.go")
		if err := os.WriteFile(source, []byte(crashing), 0o644); err != nil {
			return nil, err
		}
		mod, err := exec.Command("go", "env", "GOMOD").Output()
		if err != nil {
			return nil, fmt.Errorf("find the module: %w", err)
		}
		place := filepath.Join(filepath.Dir(strings.TrimSpace(string(mod))), "internal/worker/crashing_overlay.go")
		text, err := json.Marshal(map[string]any{"Replace": map[string]string{place: source}})
		if err != nil {
			return nil, err
		}
		overlay := filepath.Join(scratch, "overlay.json")
		return []string{"-tags", "failpoint", "-overlay", overlay}, os.WriteFile(overlay, text, 0o644)
	})
}

// BuildNextFormat returns the path of a binary of the version "nextformat", whose
// format of handover is newer than Build's.
func BuildNextFormat(t testing.TB) string {
	t.Helper()
	return buildOnce(t, "nextformat", func() ([]string, error) {
		return []string{"-tags", "failpoint,nextformat"}, nil
	})
}

// BuildStatic returns the path of a binary of the version "static": without cgo, as releases are,
// whatever the test is built with.
func BuildStatic(t testing.TB) string {
	t.Helper()
	return buildOnce(t, "static", func() ([]string, error) { return []string{"-pgo=off", "-tags", "failpoint"}, nil })
}

// buildOnce is BuildVersion with other arguments of `go build`.
func buildOnce(t testing.TB, version string, args func() ([]string, error)) string {
	t.Helper()
	builds.Lock()
	build := builds.done[version]
	if build == nil {
		build = sync.OnceValues(func() (string, error) {
			more, err := args()
			if err != nil {
				return "", err
			}
			return goBuildWith(version, more)
		})
		if builds.done == nil {
			builds.done = make(map[string]func() (string, error))
		}
		builds.done[version] = build
	}
	builds.Unlock()
	path, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func goBuildWith(version string, more []string) (string, error) {
	if err := seeSources(); err != nil {
		return "", err
	}
	out := filepath.Join(scratch, "reuseportd-"+version)
	args := append([]string{"build", "-ldflags", "-X main.version=" + version, "-o", out}, more...)
	cmd := exec.Command("go")
	switch {
	case version == "static":
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	case Raced:
		args = append(args, "-race")
	}
	cmd.Args = append(append(cmd.Args, args...), command)
	text, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", version, err, text)
	}
	return out, nil
}
