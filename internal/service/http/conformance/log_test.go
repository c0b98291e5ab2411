package conformance

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
	"strings"
	"testing"

	"reuseportd/internal/config"
	service "reuseportd/internal/service/http"
)

// TestAccessLog: one line for each answer, which no request can break.
func TestAccessLog(t *testing.T) {
	for _, format := range []string{"combined", "json"} {
		t.Run(format, func(t *testing.T) {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			defer w.Close()
			conf := base("")
			conf.AccessLog = &config.AccessLog{Format: format, File: "-"}
			site, err := service.NewSite(conf, service.Options{AccessLog: int(w.Fd())})
			if err != nil {
				t.Fatal(err)
			}
			site.Close()
			t.Run("serve", func(t *testing.T) {
				s := serve(t, "tcp", conf, service.Options{AccessLog: int(w.Fd())})
				s.feed(t, "GET /\"x\\y HTTP/1.1\r\nHost: h\r\nUser-Agent: a\"b\\c\xff\r\nReferer: http://x/\t\r\n\r\n"+last)
				s.feed(t, "HEAD /secret HTTP/1.0\r\nUser-Agent: secret\r\n\r\n")
				s.feed(t, "GET /"+strings.Repeat("a", 600))
				s.feed(t, "x\x1b\n\n")
			})
			_ = w.Close()
			raw, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			lines := strings.Split(strings.TrimSuffix(string(raw), "\n"), "\n")
			if len(lines) != 5 {
				t.Fatalf("%d lines, want 5:\n%s", len(lines), raw)
			}
			t.Logf("\n%s", raw)
			for i, line := range lines {
				if i >= 3 && strings.Contains(line, "secret") {
					t.Errorf("a line speaks of another connection's request: %s", line)
				}
				if format == "json" {
					var v map[string]any
					if err := json.Unmarshal([]byte(line), &v); err != nil {
						t.Errorf("%v in %s", err, line)
					}
				}
				if strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r >= 0x7f }) {
					t.Errorf("unescaped: %q", line)
				}
			}
		})
	}
}

// TestAccessLogStuck: a log that takes nothing costs lines, and no answer.
func TestAccessLogStuck(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	conf := base("")
	conf.AccessLog = &config.AccessLog{Format: "combined", File: "-"}
	t.Cleanup(func() { w.Close() })
	s := serve(t, "tcp", conf, service.Options{AccessLog: int(w.Fd())})
	t.Cleanup(func() { go func() { _, _ = io.Copy(io.Discard, r); r.Close() }() })
	c := s.dial(t)
	br := bufio.NewReaderSize(c, 1<<20)
	const batch = 500
	var dropped uint64
	for n := 0; dropped == 0; n += batch {
		if n > 200000 {
			t.Fatal("nothing was dropped")
		}
		_, _ = io.WriteString(c, strings.Repeat(get, batch))
		for range batch {
			if a := read(t, br, "GET"); a.status != 200 {
				t.Fatal(a)
			}
		}
		s.onLoop(func() { dropped = s.Count().LogDropped })
	}
}
