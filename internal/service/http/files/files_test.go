package files

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// TestPlanHugeFile: offsets beyond 4 GiB are right.
func TestPlanHugeFile(t *testing.T) {
	s := newSite(t)
	s.write("huge", nil)
	const size = 5<<30 + 3
	s.must(os.Truncate(s.path("huge"), size))
	f, err := os.OpenFile(s.path("huge"), os.O_WRONLY, 0)
	s.must(err)
	_, err = f.WriteAt([]byte("xyz"), size-3)
	s.must(errors.Join(err, f.Close()))
	if got := s.ask("GET", "/huge"); got.status != 200 || got.length != size {
		t.Errorf("got %d, %d bytes", got.status, got.length)
	}
	for r, want := range map[string]string{
		"bytes=5368709120-5368709121": "bytes 5368709120-5368709121/5368709123 xy",
		"bytes=-3":                    "bytes 5368709120-5368709122/5368709123 xyz",
		"bytes=5368709122-":           "bytes 5368709122-5368709122/5368709123 z",
		"bytes=5368709123-":           "bytes */5368709123 416 Range Not Satisfiable\n",
	} {
		got := s.ask("GET", "/huge", "Range: "+r)
		if text := got.header.Get("Content-Range") + " " + string(got.body); text != want {
			t.Errorf("%s: got %d %q, want %q", r, got.status, text, want)
		}
	}
	if got := s.ask("GET", "/huge", "Range: bytes=1-"); got.status != 206 || got.length != size-1 {
		t.Errorf("got %d, %d bytes", got.status, got.length)
	}
}

// TestPlanFields: what an answer says and what it doesn't.
func TestPlanFields(t *testing.T) {
	s := newSite(t)
	s.write("a.css", []byte("0123456789"))
	whole := s.ask("GET", "/a.css")
	tag := whole.header.Get("ETag")
	for name, c := range map[string]struct {
		fields []string
		status int
		length int64
		has    string // names, in the order of the alphabet
	}{
		"whole":         {nil, 200, 10, "Accept-Ranges Content-Type Etag Last-Modified"},
		"part":          {[]string{"Range: bytes=1-2"}, 206, 2, "Accept-Ranges Content-Range Content-Type Etag Last-Modified"},
		"parts":         {[]string{"Range: bytes=1-2,4-5"}, 206, -2, "Accept-Ranges Content-Type Etag Last-Modified"},
		"not modified":  {[]string{"If-None-Match: " + tag}, 304, -1, "Etag Last-Modified"},
		"failed":        {[]string{"If-Match: \"x\""}, 412, 24, "Content-Type"},
		"unsatisfiable": {[]string{"Range: bytes=10-"}, 416, 26, "Content-Range Content-Type"},
	} {
		got := s.ask("GET", "/a.css", c.fields...)
		var has []string
		for _, f := range []string{"Accept-Ranges", "Allow", "Content-Range", "Content-Type", "Etag", "Last-Modified", "Location"} {
			if got.header.Get(f) != "" {
				has = append(has, f)
			}
		}
		if got.status != c.status || c.length != -2 && got.length != c.length || strings.Join(has, " ") != c.has {
			t.Errorf("%s: got %d, length %d, %v", name, got.status, got.length, got.header)
		}
	}
	if v := whole.header.Get("Last-Modified"); v != stamped.Format(http.TimeFormat) {
		t.Errorf("Last-Modified: %s", v)
	}
}

// TestPlanFutureFile: Last-Modified is never later than Date, RFC 9110 section
// 8.8.2.1.
func TestPlanFutureFile(t *testing.T) {
	s := newSite(t)
	s.write("a.txt", []byte("a"))
	s.now = stamped.Add(-24 * time.Hour)
	if v := s.ask("GET", "/a.txt").header.Get("Last-Modified"); v != s.now.Format(http.TimeFormat) {
		t.Errorf("Last-Modified: %s at %s", v, s.now)
	}
	s.must(os.Chtimes(s.path("a.txt"), time.Unix(-1, 5), time.Unix(-1, 5)))
	if v := s.ask("GET", "/a.txt").header.Get("Last-Modified"); v != "Wed, 31 Dec 1969 23:59:59 GMT" {
		t.Errorf("Last-Modified of a file from before 1970: %s", v)
	}
}

// TestPlanTags: what was changed has another tag, what was only touched elsewhere
// has the same.
func TestPlanTags(t *testing.T) {
	s := newSite(t)
	s.write("a.txt", []byte("one"))
	tag := func() string { return s.ask("GET", "/a.txt").header.Get("ETag") }
	first := tag()
	if again := tag(); again != first {
		t.Errorf("%s, then %s", first, again)
	}
	s.must(os.Chtimes(s.path("a.txt"), stamped, stamped.Add(1)))
	if touched := tag(); touched == first {
		t.Errorf("a nanosecond later it is %s still", touched)
	}
	s.write("a.txt", []byte("longer"))
	if longer := tag(); longer == first {
		t.Errorf("another size, and %s still", longer)
	}
	if !strings.HasPrefix(first, `"`) || !strings.HasSuffix(first, `"`) || len(first) < 3 {
		t.Errorf("%s is not a strong tag", first)
	}
}

// TestPlanAllocatesNothing holds that for all but several parts.
func TestPlanAllocatesNothing(t *testing.T) {
	s := newSite(t)
	s.write("small.css", make([]byte, 1000))
	s.write("large.css", make([]byte, 100_000))
	s.write("sub/index.html", []byte("sub"))
	tag := s.ask("GET", "/small.css").header.Get("ETag")
	date := stamped.Format(http.TimeFormat)
	for name, c := range map[string]struct {
		status         int
		method, target string
		fields         []string
	}{
		"small":              {200, "GET", "/small.css", nil},
		"large":              {200, "GET", "/large.css", nil},
		"index":              {200, "GET", "/sub/", nil},
		"HEAD":               {200, "HEAD", "/large.css", nil},
		"same tag":           {304, "GET", "/small.css", []string{"If-None-Match: \"x\", " + tag}},
		"same date":          {304, "GET", "/small.css", []string{"If-Modified-Since: " + date}},
		"other date":         {200, "GET", "/small.css", []string{"If-Modified-Since: Thu, 01 Jan 2015 00:00:00 GMT"}},
		"small part":         {206, "GET", "/small.css", []string{"Range: bytes=1-10"}},
		"large part":         {206, "GET", "/large.css", []string{"Range: bytes=-50000", "If-Range: " + date}},
		"too many bytes":     {200, "GET", "/small.css", []string{"Range: bytes=0-900,0-900"}},
		"unsatisfiable":      {416, "GET", "/small.css", []string{"Range: bytes=1000-"}},
		"failed condition":   {412, "GET", "/small.css", []string{"If-Match: \"x\""}},
		"missing":            {404, "GET", "/none.css", nil},
		"redirected":         {301, "GET", "/sub?q", nil},
		"method not allowed": {405, "DELETE", "/small.css", nil},
		"options":            {204, "OPTIONS", "/small.css", nil},
	} {
		for _, s.root.cache = range []time.Duration{0, time.Hour} {
			s.parse(c.method, c.target, c.fields...)
			allocated := testing.AllocsPerRun(200, func() {
				s.plan()
				closeFD(s.ans.fd)
			})
			if s.ans.status != c.status {
				t.Errorf("%s: got %d, want %d", name, s.ans.status, c.status)
			}
			if allocated > 0 && !raceEnabled {
				t.Errorf("%s, with a cache for %v: %v allocations", name, s.root.cache, allocated)
			}
		}
	}
}

// BenchmarkPlan has the bodies on both sides of smallFile.
func BenchmarkPlan(b *testing.B) {
	s := newSite(b)
	for _, size := range []int{1 << 10, smallFile, smallFile + 1} {
		name := fmt.Sprintf("%d.css", size)
		s.write(name, make([]byte, size))
		b.Run(name, func(b *testing.B) {
			s.parse("GET", "/"+name)
			b.ReportAllocs()
			for b.Loop() {
				s.plan()
				closeFD(s.ans.fd)
			}
		})
	}
}
