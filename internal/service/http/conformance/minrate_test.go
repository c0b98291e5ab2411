package conformance

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	service "reuseportd/internal/service/http"
)

const (
	// lateAfter is what a client may be behind.
	lateAfter = 5 * time.Second
	// patient is how long a test waits so as to see that nobody minds.
	patient = lateAfter + time.Second
)

// drip sends a few bytes again and again, in chunks or not, until that fails.
func drip(c net.Conn, chunked bool) {
	bytes := "0123456789"
	if chunked {
		bytes = "a\r\n" + bytes + "\r\n"
	}
	for {
		if _, err := io.WriteString(c, bytes); err != nil {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// TestMinRateBody: who sends a body too slowly is told so, unless an answer has begun.
func TestMinRateBody(t *testing.T) {
	if testing.Short() {
		t.Skip("a rate takes its seconds")
	}
	t.Parallel()
	const length, chunks = "Content-Length: 500000\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n"
	begins := func(c net.Conn, _ int) {
		_, _ = http.ReadRequest(bufio.NewReader(c))
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
		_, _ = io.Copy(io.Discard, struct{ io.Reader }{c})
	}
	swallows := func(c net.Conn, _ int) { _, _ = io.Copy(io.Discard, struct{ io.Reader }{c}) }
	for name, tt := range map[string]struct {
		path, framing string
		server        func(net.Conn, int)
		want          string
	}{
		"length":                       {"/", length, nil, "408"},
		"chunks":                       {"/", chunks, nil, "408"},
		"passed on, length":            {"/", length, swallows, "408"},
		"passed on, chunks":            {"/", chunks, swallows, "408"},
		"the answer has begun":         {"/", length, begins, ""},
		"the answer has begun, chunks": {"/", chunks, begins, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conf := base("")
			if tt.server != nil {
				conf = proxying()
			}
			conf.MaxBody, conf.MinRate = 1<<20, 1000
			var s *server
			if tt.server != nil {
				s, _ = front(t, "tcp", conf, app(listen(t, tt.server).addr))
			} else {
				s = serve(t, "tcp", conf, service.Options{AccessLog: -1})
			}
			start := time.Now()
			c := s.dial(t)
			_, _ = io.WriteString(c, "POST "+tt.path+" HTTP/1.1\r\nHost: h\r\n"+tt.framing)
			go drip(c, tt.framing == chunks)
			raw, err := io.ReadAll(c)
			switch {
			case tt.want == "":
				if !strings.HasSuffix(string(raw), "\r\n\r\nhalf") {
					t.Errorf("%q, %v", raw, err)
				}
			case err != nil:
				t.Error(err)
			default:
				if got := statuses(parseAll(t, undated(string(raw)))); got != tt.want {
					t.Errorf("%q", got)
				}
			}
			if took := time.Since(start); took < lateAfter {
				t.Errorf("ended after %v", took)
			}
			if n := s.count().Slow; n != 1 {
				t.Errorf("%d are counted", n)
			}
		})
	}
}

// TestMinRateAnswer: who takes an answer too slowly is cut.
func TestMinRateAnswer(t *testing.T) {
	if testing.Short() {
		t.Skip("a rate takes its seconds")
	}
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "large"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(dir, "large"), 1<<32); err != nil {
		t.Fatal(err)
	}
	floods := func(c net.Conn, _ int) {
		_, _ = http.ReadRequest(bufio.NewReader(c))
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 4294967296\r\n\r\n")
		for room := make([]byte, 1<<16); ; {
			if _, err := c.Write(room); err != nil {
				return
			}
		}
	}
	for name, path := range map[string]string{"a file": "/files/large", "passed on": "/passed"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conf := proxying()
			conf.MinRate = 1 << 30
			conf.Routes[0].Path = "/passed"
			conf.Routes = append(conf.Routes, base(dir).Routes...)
			s, _ := front(t, "tcp", conf, app(listen(t, floods).addr))
			start := time.Now()
			c := s.dial(t)
			_, _ = io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: h\r\n\r\n")
			room := make([]byte, 1<<16)
			for s.count().Slow == 0 {
				if _, err := c.Read(room); err != nil && s.count().Slow == 0 {
					t.Fatal(err)
				}
				time.Sleep(5 * time.Millisecond)
			}
			if took := time.Since(start); took < lateAfter {
				t.Errorf("ended after %v", took)
			}
			if k := s.count(); k.Slow != 1 || k.Cut != 1 {
				t.Errorf("%+v", k)
			}
		})
	}
}

// TestMinRateOthers: nobody is ended for what a server is slow with, nor for silence in a tunnel, nor
// where there is no rate.
func TestMinRateOthers(t *testing.T) {
	if testing.Short() {
		t.Skip("a rate takes its seconds")
	}
	t.Parallel()
	const answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	body := strings.Repeat("0123456789", 1<<20)
	request := "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10485760\r\n\r\n" + body
	chunked := "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\na00000\r\n" + body + "\r\n0\r\n\r\n"
	reads := func(wait time.Duration, c net.Conn) {
		r := bufio.NewReader(c)
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		time.Sleep(wait)
		_, _ = io.Copy(io.Discard, req.Body)
	}
	stalls := func(c net.Conn, _ int) {
		reads(patient, c)
		_, _ = io.WriteString(c, answer)
	}
	thinks := func(c net.Conn, _ int) {
		reads(0, c)
		time.Sleep(patient)
		for i := range answer {
			_, _ = io.WriteString(c, answer[i:i+1])
		}
	}
	for name, tt := range map[string]struct {
		request string
		server  func(net.Conn, int)
	}{
		"a server that takes nothing":         {request, stalls},
		"a server that takes nothing, chunks": {chunked, stalls},
		"a server that thinks":                {request, thinks},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conf := proxying()
			conf.MinRate = 1 << 20
			s, _ := front(t, "tcp", conf, app(listen(t, tt.server).addr))
			c := s.dial(t)
			go func() { _, _ = io.WriteString(c, tt.request) }()
			if a := read(t, bufio.NewReader(c), "POST"); a.status != 200 || a.body != "ok" || s.count().Slow > 0 {
				t.Errorf("%+v, %d counted", a, s.count().Slow)
			}
		})
	}
}
