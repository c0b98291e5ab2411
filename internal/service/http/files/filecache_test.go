package files

import (
	"fmt"
	"os"
	"testing"
	"time"
)

// Within the time of its cache a small file is what it was; then it is looked at.
func TestFileCache(t *testing.T) {
	s := newSite(t)
	s.root.cache = time.Second
	s.write("a.css", []byte("old"))
	s.write("gone.css", []byte("here"))
	old := s.ask("GET", "/a.css")
	s.ask("GET", "/gone.css")
	s.must(os.WriteFile(s.path("a.css"), []byte("newer"), 0o644))
	s.must(os.Remove(s.path("gone.css")))
	tag := "If-None-Match: " + old.header.Get("ETag")
	for _, c := range []struct {
		what           string
		after          time.Duration
		method, target string
		field          string
		status         int
		body           string
	}{
		{"in time", 0, "GET", "/a.css", "X: y", 200, "old"},
		{"at the last moment", time.Second - 1, "GET", "/a.css", "X: y", 200, "old"},
		{"the same tag", 0, "GET", "/a.css", tag, 304, ""},
		{"only its head", 0, "HEAD", "/a.css", "X: y", 200, ""},
		{"a part", 0, "GET", "/a.css", "Range: bytes=1-3", 206, "ewe"},
		{"a removed file", 0, "GET", "/gone.css", "X: y", 200, "here"},
		{"another name", 0, "GET", "/b.css", "X: y", 404, "404 Not Found\n"},
		{"too late", time.Second, "GET", "/a.css", tag, 200, "newer"},
		{"a removed file, too late", time.Second, "GET", "/gone.css", "X: y", 404, "404 Not Found\n"},
		{"renewed", 2*time.Second - 1, "GET", "/a.css", "X: y", 200, "newer"},
	} {
		s.now = stamped.Add(time.Hour + c.after)
		got := s.ask(c.method, c.target, c.field)
		if got.status != c.status || string(got.body) != c.body {
			t.Errorf("%s: got %d %q", c.what, got.status, got.body)
		}
		if fresh := c.body == "newer"; c.status == 200 && c.target == "/a.css" && (got.header.Get("ETag") != old.header.Get("ETag")) != fresh {
			t.Errorf("%s: tag %s, the old one was %s", c.what, got.header.Get("ETag"), old.header.Get("ETag"))
		}
	}
}

// Two roots don't share what has the same name, and one without a cache has none.
func TestFileCacheOfOneRoot(t *testing.T) {
	s, other := newSite(t), newSite(t)
	s.root.cache, other.root.cache = time.Second, time.Second
	s.write("a.css", []byte("one"))
	other.write("a.css", []byte("other"))
	s.ask("GET", "/a.css")
	first := s.root
	s.root = other.root
	if got := s.ask("GET", "/a.css"); string(got.body) != "other" {
		t.Errorf("the other root's is %q", got.body)
	}
	s.root = first
	s.root.cache = 0
	s.must(os.WriteFile(s.path("a.css"), []byte("changed"), 0o644))
	if got := s.ask("GET", "/a.css"); string(got.body) != "changed" {
		t.Errorf("without a cache it is %q", got.body)
	}
}

// It never grows beyond its bounds.
func TestFileCacheIsBounded(t *testing.T) {
	s := newSite(t)
	s.root.cache = time.Hour
	c := &s.ans.room.cache
	for _, size := range []int{1, smallFile, 1} {
		for i := range maxCached + 10 {
			name := fmt.Sprint(i) // the same one, as files grow and shrink
			s.write(name, make([]byte, size))
			s.ask("GET", "/"+name)
			s.now = s.now.Add(s.root.cache)
			held := 0
			for k, f := range c.files {
				held += cost([]byte(k.name), cap(f.data))
			}
			if held != c.bytes || held > maxCachedBytes || len(c.files) > maxCached || len(c.files) == 0 {
				t.Fatalf("%d files with %d bytes, counted as %d", len(c.files), held, c.bytes)
			}
		}
	}
}
