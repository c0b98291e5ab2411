package rundir

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// other is a user who is neither root nor this one.
const other = 65534

func asRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can make what another user would")
	}
}

// tree makes directories, files and links below a directory that only this user can
// reach, from lines "path mode uid" or "path -> target uid".
func tree(t *testing.T, lines ...string) string {
	t.Helper()
	base := t.TempDir()
	must(t, os.Chmod(base, 0o755))
	for _, line := range lines {
		f := strings.Fields(line)
		path := filepath.Join(base, f[0])
		uid := 0
		switch f[len(f)-1] {
		case "other":
			uid = other
		}
		if f[1] == "->" {
			must(t, os.Symlink(strings.ReplaceAll(f[2], "BASE", base), path))
		} else {
			must(t, os.Mkdir(path, 0o700))
			var m uint32
			for _, c := range f[1] {
				m = m<<3 | uint32(c-'0')
			}
			must(t, unix.Chmod(path, m))
		}
		if uid != 0 {
			must(t, os.Lchown(path, uid, uid))
		}
	}
	return base
}

// TestOpen is who may have made what is on the way to the directory.
func TestOpen(t *testing.T) {
	asRoot(t)
	for _, c := range []struct {
		name string
		tree []string
		path string
		want string // in the error; "" is none
	}{
		{"own", []string{"a 0755", "a/run 0750"}, "a/run", ""},
		{"made", []string{"a 0755"}, "a/b/run", ""},
		{"made in a sticky place", []string{"tmp 1777"}, "tmp/run", ""},
		{"somebody's", []string{"tmp 1777", "tmp/run 0755 other"}, "tmp/run", "tmp/run belongs to uid 65534"},
		{"writable", []string{"run 0777"}, "run", "run can be written to by others (mode 0777)"},
		{"writable by a group", []string{"run 0770"}, "run", "can be written to by others"},
		{"sticky itself", []string{"run 1777"}, "run", "can be written to by others"},
		{"below somebody's", []string{"a 0755 other", "a/run 0700"}, "a/run", "a belongs to uid 65534"},
		{"below what others can write to", []string{"a 0777", "a/run 0700"}, "a/run", "a can be written to by others"},
		{"nothing is made there", []string{"a 0777"}, "a/run", "a can be written to by others"},
		{"root's link", []string{"run 0755", "var -> run"}, "var/rp", ""},
		{"root's absolute link", []string{"run 0755", "var -> BASE/run"}, "var/rp", ""},
		{"root's link in a sticky place", []string{"run 0755", "tmp 1777", "tmp/l -> ../run"}, "tmp/l/rp", ""},
		{"somebody's link", []string{"run 0755", "tmp 1777", "tmp/l -> ../run other"}, "tmp/l/rp", "tmp/l is a symbolic link of uid 65534"},
		{"a link that is the directory", []string{"run 0755", "tmp 1777", "tmp/l -> ../run"}, "tmp/l", ""},
		{"to somebody's", []string{"a 0755 other", "a/b 0755", "l -> a/b"}, "l", "a belongs to uid 65534"},
		{"dots", []string{"a 0755", "run 0755"}, "a/../a/./..//run", ""},
		{"a circle", []string{"l -> m", "m -> l"}, "l/run", "too many levels of symbolic links"},
		{"above root", []string{"run 0755", "l -> ../../../../../../../../BASE/run"}, "l", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			base := tree(t, c.tree...)
			d, err := Open(base+"/"+c.path, Options{Make: true})
			switch {
			case err == nil:
				defer d.Close()
				if c.want != "" {
					t.Errorf("it was opened, want %q", c.want)
				}
			case c.want == "" || !strings.Contains(err.Error(), c.want):
				t.Errorf("%v, want %q", err, c.want)
			}
			if c.name == "nothing is made there" {
				if _, err := os.Lstat(base + "/" + c.path); err == nil {
					t.Error("it was made")
				}
			}
			if c.want == "" {
				return
			}
			if d, err = Open(base+"/"+c.path, Options{Make: true, Unsafe: true}); err == nil {
				_ = d.Close()
			} else if c.name != "a circle" {
				t.Errorf("unsafe: %v", err)
			}
		})
	}
	if _, err := Open("run", Options{}); err == nil {
		t.Error("a relative path was taken")
	}
}

// TestUnusable is a path that can't be a runtime directory: it is named once, with what to do.
func TestUnusable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(path, nil, 0o600))
	_, err := Open(path, Options{Make: true})
	if want := fmt.Sprintf("runtime directory: %s: not a directory; name another with --runtime-dir, or let this user (uid %d) have it",
		path, os.Geteuid()); err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	_, err = Open(path+"/run", Options{Make: true})
	if want := fmt.Sprintf("runtime directory %s/run: %s: not a directory; name another", path, path); err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("%v, want %s", err, want)
	}
}

// TestRootAsksAnothersMaster is root's `status` of a user's service.
func TestRootAsksAnothersMaster(t *testing.T) {
	asRoot(t)
	base := tree(t, "home 0755 other", "home/run 0750 other", "third 0755")
	must(t, os.Chown(base+"/third", other+1, 0))
	d, err := Open(base+"/home/run", Options{Client: true})
	must(t, err)
	if d.Owner() != other {
		t.Errorf("owner %d", d.Owner())
	}
	must(t, d.Close())
	must(t, os.Mkdir(base+"/third/run", 0o755))
	must(t, os.Chown(base+"/third/run", other, other))
	if _, err := Open(base+"/third/run", Options{Client: true}); !IsUnsafe(err) {
		t.Errorf("below a third user's: %v", err)
	}
}

// TestPlantedFiles is what somebody has put into the directory before it was closed to
// others.
func TestPlantedFiles(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir)
	victim := filepath.Join(t.TempDir(), "victim")
	must(t, os.WriteFile(victim, []byte("mine"), 0o600))
	for _, name := range []string{"receipts.json", "receipts.json.new"} {
		must(t, os.Symlink(victim, filepath.Join(dir, name)))
	}
	if _, err := d.ReadFile("receipts.json", 100); err == nil {
		t.Error("a link was read")
	}
	must(t, d.WriteFile("receipts.json", []byte("[]"), 0o600))
	if b, err := os.ReadFile(victim); err != nil || string(b) != "mine" {
		t.Errorf("the victim has %q, %v", b, err)
	}
	if b, err := d.ReadFile("receipts.json", 100); err != nil || string(b) != "[]" {
		t.Errorf("read %q, %v", b, err)
	}
	if _, err := d.ReadFile("receipts.json", 1); err == nil {
		t.Error("more than the limit was read")
	}
	must(t, unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600))
	if _, err := d.ReadFile("fifo", 100); err == nil {
		t.Error("a FIFO was read")
	}
	for _, name := range []string{"", ".", "..", "a/b", "/etc/passwd"} {
		if d.Remove(name) == nil || d.WriteFile(name, nil, 0o600) == nil {
			t.Errorf("%q is taken for a name", name)
		}
	}
	if _, err := d.Bind("fifo", unix.SOCK_STREAM); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("a socket in the place of a FIFO: %v", err)
	}
	if os.Geteuid() == 0 {
		must(t, os.WriteFile(filepath.Join(dir, "theirs"), nil, 0o600))
		must(t, os.Chown(filepath.Join(dir, "theirs"), other, other))
		if _, err := d.ReadFile("theirs", 100); err == nil {
			t.Error("another user's file was read")
		}
	}
}
