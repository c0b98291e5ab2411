package material

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/sandbox"
)

func page(paths ...string) Want { return Want{Kind: Page, Paths: paths} }

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.WriteFile(path("good"), []byte("good"), 0o644))
	must(os.WriteFile(path("empty"), nil, 0o644))
	must(os.WriteFile(path("most"), make([]byte, 1<<20), 0o644))
	must(os.WriteFile(path("long"), make([]byte, 1<<20+1), 0o644))
	must(os.Symlink("good", path("link")))
	must(os.Symlink("loop", path("loop")))
	must(unix.Mkfifo(path("fifo"), 0o644))
	for name, want := range map[string]string{
		"good": "good", "link": "good", "empty": "", "most": string(make([]byte, 1<<20)),
	} {
		if r := page(path(name)).Load(nil); r.Err != nil || len(r.Files) != 1 || string(r.Files[0]) != want {
			t.Errorf("%s: %d files, %v", name, len(r.Files), r.Err)
		}
	}
	for name, want := range map[string]string{
		"none": "no such file", "long": "has more than 1024 KiB", "fifo": "is not a regular file", "loop": "too many levels",
		".": "is not a regular file", "good/x": "not a directory",
	} {
		if err := page(path(name)).Load(nil).Err; err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
	if page("/dev/zero").Load(nil).Err == nil {
		t.Error("/dev/zero is taken")
	}
	if (Want{Kind: "else", Paths: []string{path("good")}}).Load(nil).Err == nil {
		t.Error("an unknown kind is taken")
	}
	if os.Geteuid() != 0 {
		return
	}
	must(os.Chmod(filepath.Dir(dir), 0o755))
	must(os.WriteFile(path("own"), nil, 0o600))
	if err := page(path("own")).Load(&sandbox.User{UID: 65534, GID: 65534}).Err; err == nil || !strings.Contains(err.Error(), "uid 65534") {
		t.Errorf("another user's: %v", err)
	}
}

func TestStore(t *testing.T) {
	var s Store
	a, b := page("/a"), page("/b")
	at := time.Unix(1, 0)
	put := func(w Want, text string) bool { return s.Put(w, [][]byte{[]byte(text)}, at) }
	if s.Find(a) != nil {
		t.Error("something is there")
	}
	if !s.Fail(a, "bad", at) || s.Fail(a, "bad", at) || !s.Fail(a, "worse", at) {
		t.Error("news of bad files are not told once")
	}
	if _, missing := s.Set([]Want{a}); len(missing) != 1 {
		t.Errorf("missing: %v", missing)
	}
	if !put(a, "1") || put(a, "1") || !put(b, "1") || !put(a, "2") {
		t.Error("changes are not seen")
	}
	if e := s.Find(a); e.Bad != "" || e.Number != 3 || string(e.Files[0]) != "2" {
		t.Errorf("%+v", e)
	}
	set, missing := s.Set([]Want{a, b, a})
	if len(missing) > 0 || set.Number != 3 || len(set.Items) != 2 {
		t.Errorf("%+v, missing %v", set, missing)
	}
	s.Keep([]Want{b})
	if s.Find(a) != nil || s.Find(b) == nil {
		t.Error("others are kept")
	}
	if !put(a, "2") || s.Find(a).Number != 4 {
		t.Error("a number was given twice")
	}
}

func TestSet(t *testing.T) {
	in := Set{Number: 7, Items: []Item{
		{page("/a").Key(), [][]byte{[]byte("one")}}, {"pair:/c\x00/k", [][]byte{[]byte("c"), {}}},
	}}
	b := in.Encode()
	out, err := Decode(b)
	if err != nil || fmt.Sprint(*out) != fmt.Sprint(in) {
		t.Errorf("%+v, %v", out, err)
	}
	if got := out.Find(page("/a")); len(got) != 1 || string(got[0]) != "one" {
		t.Errorf("%q", got)
	}
	if out.Find(page("/b")) != nil || (*Set)(nil).Find(page("/a")) != nil {
		t.Error("what isn't there is found")
	}
	for i := range b {
		if _, err := Decode(b[:i]); err == nil {
			t.Errorf("%d of %d bytes are taken", i, len(b))
		}
	}
	if _, err := Decode(append(bytes.Clone(b), 0)); err == nil {
		t.Error("more than a set is taken")
	}
}

// TestWatch: a change is told of when the file is left alone from one look to the next.
func TestWatch(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	w := &Watcher{known: make(map[string]stamp)}
	look := func(want bool, what string) {
		t.Helper()
		if w.look() != want {
			t.Errorf("%s: told is %v", what, !want)
		}
	}
	look(false, "nothing to look at")
	w.Set([]string{path})
	look(false, "it is not there")
	look(true, "it may have changed before it was looked at")
	look(false, "nothing has changed")
	write("1")
	look(false, "it has come")
	write("22")
	look(false, "it is being written")
	look(true, "it is left alone")
	look(false, "nothing has changed")
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	look(false, "its mode has changed")
	look(true, "its mode is left alone")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	look(false, "it is gone")
	look(true, "it stays so")
}

// FuzzDecode: whatever the bytes, nothing but an error comes of bad ones, and good ones are written as they were read.
func FuzzDecode(f *testing.F) {
	set := Set{Number: 7, Items: []Item{{"page:/a", [][]byte{[]byte("one"), {}}}}}
	f.Add(set.Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := Decode(b)
		if err != nil {
			return
		}
		again, err := Decode(s.Encode())
		if err != nil || fmt.Sprint(again) != fmt.Sprint(s) {
			t.Fatalf("%v, %v: %v", s, again, err)
		}
	})
}
