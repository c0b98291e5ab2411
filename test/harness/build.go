package harness

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

const command = "reuseportd/cmd/reuseportd"

var builds struct {
	sync.Mutex
	done map[string]func() (string, error)
}

// Build returns the path of the server's binary, with failpoints, and with the
// race detector if the test has it. It is built once in a test run.
func Build(t testing.TB) string { return BuildVersion(t, "test") }

// BuildVersion is Build with main.version set.
func BuildVersion(t testing.TB, version string) string {
	t.Helper()
	builds.Lock()
	build := builds.done[version]
	if build == nil {
		build = sync.OnceValues(func() (string, error) { return goBuild(version) })
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

func goBuild(version string) (string, error) {
	if err := seeSources(); err != nil {
		return "", err
	}
	out := filepath.Join(scratch, "reuseportd-"+version)
	// With the profile every package, including the standard library, would be compiled again for
	// this binary alone, which takes a minute; it affects only speed.
	args := []string{"build", "-pgo=off", "-tags", "failpoint", "-ldflags", "-X main.version=" + version, "-o", out}
	if Raced {
		args = append(args, "-race")
	}
	text, err := exec.Command("go", append(args, command)...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", command, err, text)
	}
	return out, nil
}

// seeSources looks at every source file of the server. `go test` remembers
// which files a test looks at, and takes its result from the cache only while
// they are as they were; it doesn't know what the test has built.
func seeSources() error {
	mod, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return fmt.Errorf("find the module: %w", err)
	}
	root := filepath.Dir(strings.TrimSpace(string(mod)))
	for _, dir := range []string{"cmd", "internal"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, _ os.DirEntry, err error) error {
			if err == nil {
				_, err = os.Stat(path)
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("look at the server's sources: %w", err)
		}
	}
	return nil
}

// Variant is a replacement of the server's binary that can't take over.
type Variant string

// The variants. Each is a script, except NotExecutable and Missing.
const (
	Exits         Variant = "exits"          // at once, with status 3
	Crashes       Variant = "crashes"        // by a signal
	Hangs         Variant = "hangs"          // before it says that it is ready
	NotExecutable Variant = "not executable" // a file without the x bits
	Missing       Variant = "missing"        // no file at all
	Garbage       Variant = "garbage"        // executable, but no program
)

var scripts = map[Variant]string{
	Exits:         "#!/bin/sh\necho 'this version exits' >&2\nexit 3\n",
	Crashes:       "#!/bin/sh\nkill -SEGV $$\n",
	Hangs:         "#!/bin/sh\nexec sleep 600\n",
	NotExecutable: "#!/bin/sh\n",
	Garbage:       "\x00\x01\x02 no program",
}

// Replace replaces the server's binary by v.
func (s *Server) Replace(v Variant) {
	s.t.Helper()
	if v == Missing {
		s.must(os.Remove(s.Binary))
		return
	}
	mode := os.FileMode(0o755)
	if v == NotExecutable {
		mode = 0o644
	}
	s.replace([]byte(scripts[v]), mode)
}

// Install replaces the server's binary by one of Build or BuildVersion as a package
// manager does: by a rename.
func (s *Server) Install(path string) {
	s.t.Helper()
	// A link is enough, since binaries are replaced and never written to.
	next := s.Binary + ".next"
	s.must(os.Link(path, next))
	s.must(os.Rename(next, s.Binary))
}

func (s *Server) replace(data []byte, mode os.FileMode) {
	s.t.Helper()
	next := s.Binary + ".next"
	s.must(os.WriteFile(next, data, mode))
	s.must(os.Rename(next, s.Binary))
}

// Script writes an executable shell script and returns its path.
func (s *Server) Script(lines ...string) string {
	s.t.Helper()
	path := filepath.Join(s.Dir, fmt.Sprintf("script%d", unique()))
	s.must(os.WriteFile(path, []byte("#!/bin/sh\n"+strings.Join(lines, "\n")+"\n"), 0o755))
	return path
}
