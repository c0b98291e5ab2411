package upgrade

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestLogPath: what the workers' user puts into the directory of the logs doesn't lead the master elsewhere.
func TestLogPath(t *testing.T) {
	const other = 65534
	dir := t.TempDir()
	logs, secret := filepath.Join(dir, "logs"), filepath.Join(dir, "secret")
	for _, d := range []string{logs, secret, filepath.Join(logs, "sub")} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	link := func(target, name string, uid int) {
		t.Helper()
		path := filepath.Join(logs, name)
		if err := os.Symlink(target, path); err != nil {
			t.Fatal(err)
		}
		if err := os.Lchown(path, uid, -1); err != nil {
			t.Skip("not root: ", err)
		}
	}
	if err := os.WriteFile(filepath.Join(secret, "passwd"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(logs, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	link("../secret/passwd", "theirs", other)
	link("../secret/missing", "theirs-missing", other)
	link("../secret", "dir", other)
	link("../secret/passwd", "ours", 0)
	link(secret, "our-dir", 0)
	link("theirs", "to-theirs", 0)
	link("loop", "loop", 0)
	fifo := filepath.Join(logs, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Lchown(fifo, other, -1); err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	for name, want := range map[string]string{
		"fresh":          "",
		"fresh.2":        "",
		"sub/../fresh":   "",
		"sub/fresh":      "",
		"ours":           "",
		"our-dir/made":   "",
		"theirs":         "symbolic link of uid 65534",
		"theirs-missing": "symbolic link of uid 65534",
		"dir/made":       "symbolic link of uid 65534",
		"to-theirs":      "symbolic link of uid 65534",
		"loop":           "too many levels",
		"fifo":           "no regular file",
		"sub":            "is a directory",
		"file/x":         "not a directory",
		"none/x":         "no such file",
		"/proc/self/fd/" + strconv.Itoa(int(w.Fd())): "",
	} {
		if !filepath.IsAbs(name) {
			name = logs + "/" + name
		}
		f, err := openLog(name)
		switch {
		case want == "" && err != nil, want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: error %v, want %q", name, err, want)
		case err == nil:
			f.Close()
		}
	}
	if _, err := os.Stat(filepath.Join(secret, "missing")); err == nil {
		t.Error("a file was made where a link of another user led")
	}
}
