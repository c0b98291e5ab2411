package files

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestPlanStatuses has what is not a plain file, and what can't be had.
func TestPlanStatuses(t *testing.T) {
	s := newSite(t)
	s.write("a.txt", []byte("a"))
	s.write("sub/index.html", []byte("sub"))
	s.write("indexdir/index.html/x", []byte("x"))
	s.write("closed/a.txt", []byte("a"))
	s.write("private.txt", []byte("a"))
	s.must(os.Mkdir(s.path("linked"), 0o755))
	s.must(os.Symlink("../../secret", s.path("linked/index.html")))
	s.must(os.Symlink("sub/../a.txt", s.path("inside")))
	s.must(os.Symlink("../root/a.txt", s.path("outandin")))
	s.must(os.Symlink(s.path("a.txt"), s.path("absolute")))
	s.must(os.Symlink("/proc/self/fd/0", s.path("magic")))
	s.must(unix.Mkfifo(s.path("fifo"), 0o644))
	long := strings.Repeat("n/", 2500)
	for target, want := range map[string]int{
		"/a.txt": 200, "/inside": 200, "/sub/": 200, "/sub": 301,
		"/": 404, "/none": 404, "/a.txt/": 404, "/a.txt/x": 404, "/indexdir/": 404, "/linked/": 404,
		"/outandin": 404, "/absolute": 404, "/magic": 404, "/fifo": 404, "/../secret": 404,
		"/" + strings.Repeat("n", 256): 404, "/" + long: 404,
	} {
		got := s.ask("GET", target)
		if got.status != want || bytes.Contains(got.body, []byte("SECRET")) {
			t.Errorf("%.50s: got %d %q, want %d", target, got.status, got.body, want)
		}
		if head := s.ask("HEAD", target); head.status != got.status || head.length != got.length {
			t.Errorf("%.50s: HEAD says %d, %d bytes; GET %d, %d", target, head.status, head.length, got.status, got.length)
		}
	}
	s.must(errors.Join(os.Chmod(s.path("closed"), 0), os.Chmod(s.path("private.txt"), 0)))
	defer os.Chmod(s.path("closed"), 0o755) // or it can't be removed
	s.asNobody(func() {
		for _, target := range []string{"/closed/a.txt", "/private.txt", "/closed/"} {
			if got := s.ask("GET", target); got.status != 403 {
				t.Errorf("%s: got %d, want 403", target, got.status)
			}
		}
	})
}

// asNobody calls f as a user without privileges, where the tests run as root.
func (s *site) asNobody(f func()) {
	if os.Getuid() == 0 {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if _, err := unix.SetfsuidRetUid(65534); err != nil {
			s.t.Fatal(err)
		}
		defer unix.Setfsuid(0)
	}
	f()
}

// TestPlanOddNames: no byte in a name means anything but itself.
func TestPlanOddNames(t *testing.T) {
	s := newSite(t)
	s.write("a", []byte("a"))
	for _, rel := range []string{"a\x00", "\x00", "a\x00/", "\x00a", "../secret", "a/../../secret", "/etc/passwd", "..", "../"} {
		s.parse("GET", "/x")
		s.ans.reset()
		s.root.plan(&s.req, []byte(rel), s.now, &s.ans)
		closeFD(s.ans.fd)
		if s.ans.status == 200 && !strings.HasPrefix(rel, "a\x00") || bytes.Contains(s.ans.body, []byte("SECRET")) {
			t.Errorf("%q: got %d %q", rel, s.ans.status, s.ans.body)
		}
	}
	odd := "-~ é\\\"'\r\n\x7f\x01;|*?<>"
	s.write(odd, []byte("odd"))
	var target strings.Builder
	for i := range len(odd) {
		fmt.Fprintf(&target, "%%%02x", odd[i])
	}
	if got := s.ask("GET", "/"+target.String()); got.status != 200 || string(got.body) != "odd" {
		t.Errorf("%q: got %d %q", odd, got.status, got.body)
	}
}

// TestPlanSwappedLink: a directory that is exchanged for a link to the outside
// again and again, while it is looked up, gives nothing away.
func TestPlanSwappedLink(t *testing.T) {
	s := newSite(t)
	s.write("dir/secret", []byte("harmless"))
	s.must(os.Symlink("..", s.path("link")))
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				_ = unix.Renameat2(unix.AT_FDCWD, s.path("dir"), unix.AT_FDCWD, s.path("link"), unix.RENAME_EXCHANGE)
			}
		}
	}()
	seen := map[int]int{}
	for range 5000 {
		got := s.ask("GET", "/dir/secret")
		seen[got.status]++
		if bytes.Contains(got.body, []byte("SECRET")) {
			t.Error("the secret is out")
			break
		}
	}
	close(stop)
	<-done
	for status := range seen {
		if status != 200 && status != 404 && status != 503 {
			t.Errorf("answers: %v", seen)
		}
	}
}

// TestPlanWithoutDescriptors: a worker that has none left says so.
func TestPlanWithoutDescriptors(t *testing.T) {
	s := newSite(t)
	s.write("a.txt", []byte("a"))
	var was unix.Rlimit
	s.must(unix.Getrlimit(unix.RLIMIT_NOFILE, &was))
	s.must(unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 0, Max: was.Max}))
	got := s.ask("GET", "/a.txt")
	s.must(unix.Setrlimit(unix.RLIMIT_NOFILE, &was))
	if got.status != 503 {
		t.Errorf("got %d, want 503", got.status)
	}
	if got := s.ask("GET", "/a.txt"); got.status != 200 {
		t.Errorf("afterwards: got %d, want 200", got.status)
	}
}
