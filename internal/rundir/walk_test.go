package rundir

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// TestExchangedComponent is somebody who exchanges a directory for another user's while it is
// opened: it is refused, or the right one; never the other.
func TestExchangedComponent(t *testing.T) {
	asRoot(t)
	base := tree(t, "good 0755", "good/run 0750", "evil 0755 other", "evil/run 0750 other", "link -> evil other")
	var right unix.Stat_t
	must(t, unix.Stat(base+"/good/run", &right))
	for _, with := range []string{"evil", "link"} {
		stop := make(chan struct{})
		var swapper sync.WaitGroup
		swapper.Go(func() {
			for done := false; !done; { // an even number of times: everything is as before
				select {
				case <-stop:
					done = true
				default:
				}
				for range 2 {
					_ = unix.Renameat2(unix.AT_FDCWD, base+"/good", unix.AT_FDCWD, base+"/"+with, unix.RENAME_EXCHANGE)
				}
			}
		})
		opened, refused := 0, 0
		for range 500 {
			d, err := Open(base+"/good/run", Options{Make: true})
			if err != nil {
				refused++
				continue
			}
			opened++
			var st unix.Stat_t
			must(t, unix.Fstat(d.fd, &st))
			if st.Ino != right.Ino {
				t.Errorf("with %s: inode %d of uid %d was opened", with, st.Ino, st.Uid)
			}
			must(t, d.Close())
		}
		close(stop)
		swapper.Wait()
		if opened+refused != 500 {
			t.Error("not all were tried")
		}
	}
	if fds := openFDs(t, base); len(fds) > 0 {
		t.Errorf("left open: %s", fds)
	}
}

// openFDs returns the paths below base that this process has open.
func openFDs(t *testing.T, base string) (paths []string) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	for _, e := range entries {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && strings.HasPrefix(to, base) {
			paths = append(paths, to)
		}
	}
	return paths
}

// TestWalkAgainstPaths makes trees of directories and links at random and compares what the
// walk says with rules that are applied to one path after another.
func TestWalkAgainstPaths(t *testing.T) {
	asRoot(t)
	rng := rand.New(rand.NewPCG(11, 12))
	pick := func(from ...string) string { return from[rng.IntN(len(from))] }
	outcomes := make(map[string]int)
	for round := range 400 {
		base := filepath.Join(t.TempDir(), fmt.Sprint(round))
		must(t, os.Mkdir(base, 0o755))
		dirs := []string{base}
		for range 2 + rng.IntN(6) {
			at := pick(dirs...)
			path := filepath.Join(at, pick("a", "b", "c"))
			if rng.IntN(3) > 0 {
				if os.Mkdir(path, 0o700) != nil {
					continue
				}
				must(t, unix.Chmod(path, []uint32{0o755, 0o755, 0o750, 0o1777, 0o777, 0o770}[rng.IntN(6)]))
				dirs = append(dirs, path)
			} else if os.Symlink(pick("../a", "b", base+"/c", "a/../b", ".", "..", path), path) != nil {
				continue
			}
			if rng.IntN(4) == 0 {
				must(t, os.Lchown(path, other, other))
			}
		}
		path := base + "/" + strings.Join([]string{pick("a", "b", "c"), pick("a", "b", "c", ".", "..", ""), pick("a", "b")}[:1+rng.IntN(3)], "/")
		want := judge(path)
		d, err := Open(path, Options{})
		switch {
		case err == nil:
			var st, there unix.Stat_t
			must(t, unix.Fstat(d.fd, &st))
			must(t, unix.Stat(path, &there))
			if !want || st.Ino != there.Ino {
				t.Errorf("%s was opened, as inode %d; it is %d", path, st.Ino, there.Ino)
			}
			must(t, d.Close())
			outcomes["opened"]++
		case IsUnsafe(err):
			outcomes["unsafe"]++
		default:
			outcomes["missing"]++
		}
		if err != nil && want {
			t.Errorf("%s was refused: %v", path, err)
		}
		if t.Failed() {
			break
		}
	}
	if len(outcomes) < 3 || outcomes["opened"] < 10 || outcomes["unsafe"] < 10 {
		t.Errorf("the trees are of one kind: %v", outcomes)
	}
}

// judge reports whether a path that nobody changes leads to a directory that is fit.
func judge(path string) bool {
	rest, at := strings.Split(path, "/"), "/"
	for links := 0; len(rest) > 0; {
		name := rest[0]
		rest = rest[1:]
		if name == "" || name == "." {
			continue
		}
		next := filepath.Join(at, name) // a path without links, so its .. is what it says
		var st unix.Stat_t
		if unix.Lstat(next, &st) != nil || st.Uid == other && name != ".." {
			return false
		}
		if st.Mode&unix.S_IFMT == unix.S_IFLNK {
			to, err := os.Readlink(next)
			if links++; err != nil || links > 40 {
				return false
			}
			rest = slices.Concat(strings.Split(to, "/"), rest)
			if filepath.IsAbs(to) {
				at = "/"
			}
			continue
		}
		last := !slices.ContainsFunc(rest, func(s string) bool { return s != "" && s != "." })
		if st.Mode&0o022 != 0 && (last || st.Mode&unix.S_ISVTX == 0) {
			return false
		}
		at = next
	}
	var st unix.Stat_t
	return unix.Stat(at, &st) == nil && st.Uid != other && st.Mode&0o022 == 0
}
