package watch

import (
	"os"
	"path/filepath"
	"strings"
)

// maxLinks is how many symlinks a path may lead through, as in the kernel.
const maxLinks = 40

// chain returns every directory entry that decides what path means: each
// symlink on the way, the file itself, or the first entry that is missing.
// Their directories are what must be watched. A Kubernetes ConfigMap shows why:
// config.yaml → ..data/config.yaml, ..data → ..2026_01, and an update changes
// only ..data.
func chain(path string) []string {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil
	}
	var found []string
	at, rest := "/", strings.Split(abs, "/")
	for links := 0; len(rest) > 0; {
		name := rest[0]
		rest = rest[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			at = filepath.Dir(at)
			continue
		}
		next := filepath.Join(at, name)
		info, err := os.Lstat(next)
		switch {
		case err != nil:
			return append(found, next)
		case info.Mode()&os.ModeSymlink != 0:
			found = append(found, next)
			target, err := os.Readlink(next)
			if links++; err != nil || links > maxLinks {
				return found
			}
			if filepath.IsAbs(target) {
				at = "/"
			}
			rest = append(strings.Split(target, "/"), rest...)
		case info.IsDir():
			at = next
		default:
			return append(found, next)
		}
	}
	return found
}
