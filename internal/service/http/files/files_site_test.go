package files

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/config"
	"reuseportd/internal/service/http/h1"
	"reuseportd/internal/service/http/message"
)

// site is a root with files in it, asked without a connection.
type site struct {
	t       testing.TB
	dir     string // of the root
	root    *Root
	now     time.Time
	req     message.Request
	ans     answer
	scratch []byte
}

// stamped is when the files of a site were changed last.
var stamped = time.Date(2024, 2, 29, 12, 34, 56, 789, time.UTC)

// newSite makes a root below a directory that holds a secret, and checks at the end
// that no descriptor was left behind.
func newSite(t testing.TB) *site {
	t.Helper()
	before := openFiles()
	outside := t.TempDir()
	s := &site{t: t, dir: filepath.Join(outside, "root"), now: stamped.Add(time.Hour)}
	if err := os.Mkdir(s.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s.write("../secret", []byte("SECRET"))
	r, err := Open(&config.Files{Root: s.dir, Index: "index.html"})
	if err != nil {
		t.Fatal(err)
	}
	s.root = r
	t.Cleanup(func() {
		r.Close()
		if after := openFiles(); after != before {
			t.Errorf("%d descriptors before, %d after", before, after)
		}
	})
	return s
}

// openFiles counts the descriptors but for those of the runtime's poller.
func openFiles() (n int) {
	entries, _ := os.ReadDir("/proc/self/fd")
	for _, e := range entries {
		to, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err == nil && !strings.Contains(to, "eventpoll") && !strings.Contains(to, "eventfd") {
			n++
		}
	}
	return n
}

func (s *site) path(name string) string { return filepath.Join(s.dir, name) }

func (s *site) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) write(name string, body []byte) {
	s.t.Helper()
	s.must(os.MkdirAll(filepath.Dir(s.path(name)), 0o755))
	s.must(os.WriteFile(s.path(name), body, 0o644))
	s.must(os.Chtimes(s.path(name), stamped, stamped))
}

// said is an answer as the client would see it.
type said struct {
	status int
	header http.Header
	body   []byte
	length int64
}

// parse reads a request for a target below the route "/".
func (s *site) parse(method, target string, fields ...string) {
	s.t.Helper()
	head := method + " " + target + " HTTP/1.1\r\nHost: h\r\n"
	for _, f := range fields {
		head += f + "\r\n"
	}
	lim := h1.Limits{Line: 64 << 10, Head: 128 << 10}
	if n, status := h1.ParseRequest([]byte(head+"\r\n"), 0, lim, &s.req, &s.scratch); n == 0 {
		s.t.Fatalf("%q is refused: %d", head, status)
	}
}

func (s *site) plan() {
	s.ans.reset()
	s.root.plan(&s.req, bytes.TrimLeft(s.req.Path, "/"), s.now, &s.ans)
}

// ask returns the answer to one request and checks that it is whole.
func (s *site) ask(method, target string, fields ...string) said {
	s.t.Helper()
	s.parse(method, target, fields...)
	s.plan()
	a := &s.ans
	defer closeFD(a.fd)
	got := said{status: a.status, header: http.Header{}, length: a.length}
	for _, line := range strings.SplitAfter(string(a.fields), "\r\n") {
		name, value, ok := strings.Cut(strings.TrimSuffix(line, "\r\n"), ": ")
		if line == "" {
			break
		}
		if !ok || !strings.HasSuffix(line, "\r\n") || got.header.Get(name) != "" {
			s.t.Fatalf("%s %s %q: field line %q", method, target, fields, line)
		}
		got.header.Set(name, value)
	}
	if s.req.IsHead() {
		return got
	}
	got.body = append(got.body, a.body...)
	if len(a.parts) == 0 && a.fd >= 0 && a.n <= 1<<24 {
		got.body = append(got.body, s.pread(a.fd, a.off, a.n)...)
	}
	for _, p := range a.parts {
		got.body = append(append(got.body, p.head...), s.pread(a.fd, p.off, p.n)...)
	}
	got.body = append(got.body, a.tail...)
	if a.n <= 1<<24 && max(a.length, 0) != int64(len(got.body)) {
		s.t.Errorf("%s %s %q: Content-Length %d, %d bytes", method, target, fields, a.length, len(got.body))
	}
	return got
}

func (s *site) pread(fd int, off, n int64) []byte {
	s.t.Helper()
	b := make([]byte, n)
	if k, err := unix.Pread(fd, b, off); err != nil || int64(k) != n {
		s.t.Fatalf("pread %d bytes at %d: %d, %v", n, off, k, err)
	}
	return b
}
