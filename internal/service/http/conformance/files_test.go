package conformance

import (
	"bytes"
	"fmt"
	"io"
	"math/rand"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	service "reuseportd/internal/service/http"
)

var modified = time.Date(2024, 2, 29, 12, 34, 56, 789, time.UTC)

// tree makes a root and, outside of it, what must never be served.
func tree(t testing.TB) (root string) {
	t.Helper()
	dir := t.TempDir()
	root = filepath.Join(dir, "root")
	write := func(path string, body []byte) {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, body, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, modified, modified); err != nil {
			t.Fatal(err)
		}
	}
	link := func(to, path string) {
		if err := os.Symlink(to, filepath.Join(root, path)); err != nil {
			t.Fatal(err)
		}
	}
	write("secret", []byte("SECRET"))
	write("rootless/secret", []byte("SECRET"))
	write("root/index.html", []byte("<p>index"))
	write("root/a.css", bytes.Repeat([]byte("body{}\n"), 100))
	write("root/large.bin", pattern(300_000))
	write("root/empty.txt", nil)
	write("root/with space+é.txt", []byte("space"))
	write("root/UPPER.HTML", []byte("upper"))
	write("root/noextension", []byte("x"))
	write("root/sub/index.html", []byte("<p>sub"))
	write("root/sub/page.html", []byte("page"))
	write("root/bare/x.txt", []byte("x"))
	write("root/..hidden", []byte("dots"))
	link("a.css", "inside.css")
	link("sub", "insidedir")
	link("../secret", "outside")
	link("..", "outsidedir")
	link(filepath.Join(dir, "secret"), "absolute")
	link("/proc/self/environ", "proc")
	link("loop", "loop")
	if err := unix.Mkfifo(filepath.Join(root, "fifo"), 0o644); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: filepath.Join(root, "sock")}); err != nil {
		t.Fatal(err)
	}
	return root
}

func pattern(n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewSource(1))
	r.Read(b)
	return b
}

// ask sends one request for a path below /files with fields, and returns the answer.
func (s *server) ask(t testing.TB, method, path string, fields ...string) answer {
	t.Helper()
	in := method + " " + path + " HTTP/1.1\r\nHost: h\r\nConnection: close\r\n"
	for _, f := range fields {
		in += f + "\r\n"
	}
	all := parseAll(t, s.feed(t, in+"\r\n"), method)
	if len(all) != 1 {
		t.Fatalf("%d answers to %q", len(all), in)
	}
	return all[0]
}

func TestFiles(t *testing.T) {
	s := serve(t, "unix", base(tree(t)), service.Options{AccessLog: -1})
	for _, c := range []struct {
		path   string
		status int
		body   string // "" is not looked at
		kind   string
	}{
		{"/files/", 200, "<p>index", "text/html; charset=utf-8"},
		{"/files/index.html", 200, "<p>index", "text/html; charset=utf-8"},
		{"/files/UPPER.HTML", 200, "upper", "text/html; charset=utf-8"},
		{"/files/a.css", 200, "", "text/css; charset=utf-8"},
		{"/files/a.css?v=1", 200, "", "text/css; charset=utf-8"},
		{"/files//a.css", 200, "", ""},
		{"/files/./sub/../a.css", 200, "", ""},
		{"/files/%61%2ecss", 200, "", "text/css; charset=utf-8"},
		{"/files/empty.txt", 200, "", "text/plain; charset=utf-8"},
		{"/files/noextension", 200, "x", "application/octet-stream"},
		{"/files/with%20space+%C3%A9.txt", 200, "space", ""},
		{"/files/..hidden", 200, "dots", ""},
		{"/files/sub/", 200, "<p>sub", ""},
		{"/files/inside.css", 200, "", ""},
		{"/files/insidedir/page.html", 200, "page", ""},
		{"/files/sub", 301, "", ""},
		{"/files/none", 404, "", ""},
		{"/files/a.css/", 404, "", ""},
		{"/files/a.css/x", 404, "", ""},
		{"/files/" + strings.Repeat("n", 300), 404, "", ""},
	} {
		a := s.ask(t, "GET", c.path)
		if a.status != c.status || c.body != "" && a.body != c.body {
			t.Errorf("%s: got %d %q, want %d %q", c.path, a.status, a.body, c.status, c.body)
		}
		if got := a.header.Get("Content-Type"); c.kind != "" && got != c.kind {
			t.Errorf("%s: Content-Type %q, want %q", c.path, got, c.kind)
		}
		h := s.ask(t, "HEAD", c.path)
		if h.status != a.status || h.body != "" || h.header.Get("Content-Length") != fmt.Sprint(len(a.body)) {
			t.Errorf("HEAD %s: got %d, %d bytes, Content-Length %s", c.path, h.status, len(h.body), h.header.Get("Content-Length"))
		}
	}
	if a := s.ask(t, "GET", "/files/bare/"); a.status != 403 && a.status != 404 {
		t.Errorf("a directory without index: %d", a.status)
	}
}

// TestNoEscape tries ways out of the root, and files that are none.
func TestNoEscape(t *testing.T) {
	s := serve(t, "unix", base(tree(t)), service.Options{AccessLog: -1})
	for _, path := range []string{
		"/files/outside", "/files/outsidedir/secret", "/files/outsidedir/root/a.css", "/files/absolute", "/files/proc",
		"/files/../secret", "/files/../../secret", "/files/%2e%2e/secret", "/files/%2e%2e%2fsecret", "/files/..%2fsecret",
		"/files/sub/..%2f..%2fsecret", "/files/..%2f..%2f..%2f..%2f..%2fetc/passwd", "/files/%2fetc/passwd", "/files//etc/passwd",
		"/files/..%5csecret", "/files/%252e%252e/secret", "/files/.../secret", "/files/sub/../../rootless/secret",
		"/filesless/secret", "/files/loop", "/files/fifo", "/files/sock", "/files/secret%00.css", "/files/a.css%00", "/files/insidedir/../../secret",
	} {
		a := s.ask(t, "GET", path)
		if strings.Contains(a.body, "SECRET") || strings.Contains(a.body, "root:") || strings.Contains(a.body, "PATH=") {
			t.Fatalf("%s gives away %q", path, a.body)
		}
		if a.status == 200 && a.body != "hello\n" { // the route for "/"
			t.Errorf("%s: got 200 %q", path, a.body)
		}
		if a.status >= 500 {
			t.Errorf("%s: got %d", path, a.status)
		}
	}
}

func TestFileMethods(t *testing.T) {
	s := serve(t, "unix", base(tree(t)), service.Options{AccessLog: -1})
	for method, want := range map[string]int{"POST": 405, "PUT": 405, "DELETE": 405, "PATCH": 405, "TRACE": 405, "OPTIONS": 204, "BREW": 501} {
		a := s.ask(t, method, "/files/a.css", "Content-Length: 0")
		if a.status != want {
			t.Errorf("%s: got %d, want %d", method, a.status, want)
		}
		if want != 501 && a.header.Get("Allow") != "GET, HEAD, OPTIONS" {
			t.Errorf("%s: Allow %q", method, a.header.Get("Allow"))
		}
	}
}

// TestRedirect: to a directory of this server, and to nowhere else.
func TestRedirect(t *testing.T) {
	root := tree(t)
	if err := os.MkdirAll(filepath.Join(root, "odd \"<é%?#\r\nX: y"), 0o755); err != nil {
		t.Fatal(err)
	}
	s := serve(t, "unix", base(root), service.Options{AccessLog: -1})
	for path, want := range map[string]string{
		"/files/sub":        "/files/sub/",
		"/files/sub?a=b&c":  "/files/sub/?a=b&c",
		"//files//sub":      "/files/sub/",
		"/x/../files/./sub": "/files/sub/",
		"/files/odd%20%22%3c%c3%a9%25%3f%23%0d%0aX:%20y": "/files/odd%20%22%3C%C3%A9%25%3F%23%0D%0AX:%20y/",
		"http://evil.example//files/sub":                 "/files/sub/",
	} {
		a := s.ask(t, "GET", path)
		if got := a.header.Get("Location"); a.status != 301 || got != want {
			t.Errorf("%s: got %d %q, want %q", path, a.status, got, want)
		}
		if a.header.Get("X") != "" {
			t.Errorf("%s: a field was put in", path)
		}
	}
}

// oracle answers as net/http would, for the same file and validator.
func oracle(t testing.TB, name string, body []byte, etag, method string, fields ...string) answer {
	r := httptest.NewRequest(method, "/", nil)
	for _, f := range fields {
		k, v, _ := strings.Cut(f, ": ")
		r.Header.Add(k, v)
	}
	w := httptest.NewRecorder()
	w.Header().Set("Etag", etag)
	http.ServeContent(w, r, name, modified, bytes.NewReader(body))
	resp := w.Result()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{status: resp.StatusCode, header: resp.Header, body: string(got)}
}

// sameAs compares what counts in two answers about one file.
func sameAs(t *testing.T, what string, got, want answer) {
	t.Helper()
	if got.status != want.status {
		t.Errorf("%s: status %d, net/http %d", what, got.status, want.status)
		return
	}
	for _, f := range []string{"Content-Range", "Etag", "Last-Modified"} {
		g, w := got.header.Get(f), want.header.Get(f)
		if f == "Content-Range" && g != w || (got.status == 200 || got.status == 206) && g != w {
			t.Errorf("%s: %s %q, net/http %q", what, f, g, w)
		}
	}
	kind, params, _ := mime.ParseMediaType(got.header.Get("Content-Type"))
	if kind == "multipart/byteranges" {
		_, theirs, _ := mime.ParseMediaType(want.header.Get("Content-Type"))
		a, b := partsOf(t, got.body, params["boundary"]), partsOf(t, want.body, theirs["boundary"])
		if a != b {
			t.Errorf("%s: parts\n%.300q\nnet/http\n%.300q", what, a, b)
		}
		return
	}
	if (got.status == 200 || got.status == 206) && got.body != want.body {
		t.Errorf("%s: %d bytes, net/http %d", what, len(got.body), len(want.body))
	}
}

func partsOf(t *testing.T, body, boundary string) string {
	t.Helper()
	var b strings.Builder
	r := multipart.NewReader(strings.NewReader(body), boundary)
	for {
		p, err := r.NextRawPart()
		if err == io.EOF {
			return b.String()
		}
		if err != nil {
			t.Errorf("parts of %.200q: %v", body, err)
			return ""
		}
		data, _ := io.ReadAll(p)
		fmt.Fprintf(&b, "%s|%s|%s\n", p.Header.Get("Content-Range"), p.Header.Get("Content-Type"), data)
	}
}

// TestRangesAndConditions compares with http.ServeContent.
func TestRangesAndConditions(t *testing.T) {
	root := tree(t)
	s := serve(t, "unix", base(root), service.Options{AccessLog: -1})
	names := []string{"a.css", "large.bin", "empty.txt"}
	ranges := []string{
		"", "bytes=0-0", "bytes=0-", "bytes=5-9", "bytes=-5", "bytes=-0", "bytes=9-5", "bytes=0-999999", "bytes=699-", "bytes=700-",
		"bytes=-999999", "bytes=0-0,5-6", "bytes=0-1,690-800", "bytes= 0-1 , 3-4", "bytes=0-1,,3-4", "bytes=0-1,900000-", "bytes=a-b",
		"bytes=", "bytes", "items=0-1", "bytes=1", "bytes=--1", "bytes=+1-2", "bytes=0-99,0-99", "bytes=18446744073709551616-",
		"bytes=0-18446744073709551616", "bytes=0-299999,1-2", "bytes=100000-250000,10-20", "bytes=0x1-2", "bytes=1-2-3",
	}
	for _, name := range names {
		body, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		path := "/files/" + name
		whole := s.ask(t, "GET", path)
		etag, stamp := whole.header.Get("Etag"), whole.header.Get("Last-Modified")
		if etag == "" || stamp != modified.Format(http.TimeFormat) || whole.header.Get("Accept-Ranges") != "bytes" {
			t.Fatalf("validators: %v", whole.header)
		}
		for _, r := range ranges {
			var fields []string
			if r != "" {
				fields = []string{"Range: " + r}
			}
			got, want := s.ask(t, "GET", path, fields...), oracle(t, name, body, etag, "GET", fields...)
			ours, differs := stricter[r]
			switch {
			case len(body) == 0, want.status == 416 && want.header.Get("Content-Range") == "":
				// Of an empty file there is no range. What net/http can't read it
				// refuses; here it is ignored.
				want.status = 200
				fallthrough
			case differs:
				if differs && len(body) > 0 {
					want.status = ours
				}
				if got.status != want.status {
					t.Errorf("%s Range: %s: status %d, want %d", name, r, got.status, want.status)
				}
				continue
			}
			sameAs(t, name+" Range: "+r, got, want)
		}
		earlier, later := modified.Add(-time.Hour).Format(http.TimeFormat), modified.Add(time.Hour).Format(http.TimeFormat)
		long := modified.Format("Monday, 02-Jan-06 15:04:05 GMT")
		asc := modified.Format(time.ANSIC)
		for _, fields := range [][]string{
			{"If-Match: *"},
			{"If-Match: " + etag},
			{"If-Match: \"x\""},
			{"If-Match: W/" + etag},
			{"If-Match: \"x\", " + etag},
			{"If-None-Match: *"},
			{"If-None-Match: " + etag},
			{"If-None-Match: W/" + etag},
			{"If-None-Match: \"x\""},
			{"If-None-Match: \"x\" ,\"y\", " + etag},
			{"If-None-Match: \"a,b\", " + etag},
			{"If-None-Match: " + etag, "If-Modified-Since: " + earlier},
			{"If-None-Match: \"x\"", "If-Modified-Since: " + later},
			{"If-Modified-Since: " + stamp},
			{"If-Modified-Since: " + earlier},
			{"If-Modified-Since: " + later},
			{"If-Modified-Since: " + long},
			{"If-Modified-Since: " + asc},
			{"If-Modified-Since: yesterday"},
			{"If-Unmodified-Since: " + stamp},
			{"If-Unmodified-Since: " + earlier},
			{"If-Unmodified-Since: " + later},
			{"If-Unmodified-Since: tomorrow"},
			{"If-Match: " + etag, "If-Unmodified-Since: " + earlier},
			{"If-Match: \"x\"", "If-None-Match: " + etag},
			{"If-Unmodified-Since: " + earlier, "If-None-Match: " + etag},
			{"Range: bytes=1-2", "If-Range: " + etag},
			{"Range: bytes=1-2", "If-Range: W/" + etag},
			{"Range: bytes=1-2", "If-Range: \"x\""},
			{"Range: bytes=1-2", "If-Range: " + stamp},
			{"Range: bytes=1-2", "If-Range: " + earlier},
			{"Range: bytes=1-2", "If-Range: " + later},
			{"Range: bytes=1-2", "If-Range: nonsense"},
			{"Range: bytes=1-2", "If-None-Match: " + etag},
			{"Range: bytes=999999-", "If-Match: \"x\""},
			{"Range: bytes=999999-", "If-Range: \"x\""},
		} {
			for _, method := range []string{"GET", "HEAD"} {
				if method == "HEAD" && strings.HasPrefix(fields[0], "Range") || name == "empty.txt" && strings.HasPrefix(fields[0], "Range") {
					continue // RFC 9110 section 14.2: Range means nothing in a HEAD
				}
				sameAs(t, fmt.Sprint(method, " ", name, " ", fields), s.ask(t, method, path, fields...), oracle(t, name, body, etag, method, fields...))
			}
		}
		if a := s.ask(t, "HEAD", path, "Range: bytes=1-2"); a.status != 200 || a.header.Get("Content-Length") != fmt.Sprint(len(body)) {
			t.Errorf("HEAD with Range: %d", a.status)
		}
	}
}

// stricter has the ranges that RFC 9110 section 14.1.2 sees otherwise than
// net/http: an empty suffix lies in no file, a sign is no digit, and a position
// beyond every file is a position still.
var stricter = map[string]int{
	"bytes=-0": 416, "bytes=+1-2": 200, "bytes=18446744073709551616-": 416, "bytes=0-18446744073709551616": 206,
}

// TestManyRanges: a field with very many ranges costs no more than the file.
func TestManyRanges(t *testing.T) {
	conf := base(tree(t))
	conf.MaxHeader = 16 << 10
	s := serve(t, "unix", conf, service.Options{AccessLog: -1})
	for _, r := range []string{strings.Repeat("0-0,", 1500) + "0-0", strings.Repeat("0-,", 1500) + "0-", strings.Repeat("-1,", 500) + "5-6"} {
		a := s.ask(t, "GET", "/files/large.bin", "Range: bytes="+r)
		if len(a.body) > 300_000+20_000 {
			t.Errorf("status %d, %d bytes", a.status, len(a.body))
		}
	}
}

// TestFilesPipelined: answers that are sent from a file, in several parts and
// from memory keep their order, with requests arriving in any pieces.
func TestFilesPipelined(t *testing.T) {
	root := tree(t)
	s := serve(t, "tcp", base(root), service.Options{AccessLog: -1})
	one := "GET /files/large.bin HTTP/1.1\r\nHost: h\r\n\r\n" +
		"GET /files/large.bin HTTP/1.1\r\nHost: h\r\nRange: bytes=1-5,100-200000,7-8\r\n\r\n" +
		"POST /files/large.bin HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc" +
		"GET /files/large.bin HTTP/1.1\r\nHost: h\r\nRange: bytes=10-99,200-299\r\nContent-Length: 3\r\n\r\nabc" +
		"HEAD /files/large.bin HTTP/1.1\r\nHost: h\r\n\r\n" +
		"GET /files/empty.txt HTTP/1.1\r\nHost: h\r\n\r\n" +
		"GET /files/a.css HTTP/1.1\r\nHost: h\r\n\r\n"
	in := strings.Repeat(one, 5) + last
	want := "200 206 405 206 200 200 200"
	want = strings.Repeat(want+" ", 5) + "200"
	methods := strings.Fields(strings.Repeat("GET GET POST GET HEAD GET GET ", 5) + "GET")
	for _, cut := range []int{0, 10, len(one) / 2, len(one), len(in) - 3} {
		raw := s.feed(t, in[:cut], in[cut:])
		all := parseAll(t, raw, methods...)
		if got := statuses(all); got != want {
			t.Fatalf("cut at %d: got %s", cut, got)
		}
		if !bytes.Equal([]byte(all[0].body), pattern(300_000)) {
			t.Fatal("the file came changed")
		}
	}
}

// TestFileGone: a client that goes away in the middle leaves no descriptor.
func TestFileGone(t *testing.T) {
	root := tree(t)
	if err := os.Truncate(filepath.Join(root, "large.bin"), 20<<20); err != nil {
		t.Fatal(err)
	}
	s := serve(t, "tcp", base(root), service.Options{AccessLog: -1})
	before := descriptors()
	for _, r := range []string{"", "Range: bytes=0-9000000,9500000-15000000\r\n"} {
		for range 20 {
			c := s.dial(t)
			_, _ = io.WriteString(c, "GET /files/large.bin HTTP/1.1\r\nHost: h\r\n"+r+"\r\n")
			_, _ = c.Read(make([]byte, 100))
			c.Close()
		}
	}
	s.waitFor(t, "closing", func(k eventCounters) bool { return k.Open == 0 })
	s.onLoop(func() {})
	if after := descriptors(); after > before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}
