package conformance

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestProxyResponses has what servers answer, and what a client gets of it: status, body,
// whether the client's connection lives, and whether the server's is used again.
func TestProxyResponses(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\n"
	for name, c := range map[string]struct {
		method, raw string
		want        string // status and body; "broken" if it isn't whole
		kept        bool   // the client's connection
		reused      bool   // the server's
	}{
		"length":                    {"GET", ok + "Content-Length: 5\r\n\r\nhello", "200 hello", true, true},
		"empty":                     {"GET", ok + "Content-Length: 0\r\n\r\n", "200 ", true, true},
		"chunked":                   {"GET", ok + "Transfer-Encoding: chunked\r\n\r\n5;a\r\nhello\r\n1\r\n!\r\n0\r\nX: y\r\n\r\n", "200 hello!", true, true},
		"until close":               {"GET", ok + "\r\nhello", "200 hello", true, false},
		"says close":                {"GET", ok + "Content-Length: 5\r\nConnection: close\r\n\r\nhello", "200 hello", true, false},
		"1.0":                       {"GET", "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", "200 hello", true, false},
		"1.0 kept":                  {"GET", "HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: Keep-Alive\r\n\r\nhello", "200 hello", true, true},
		"204":                       {"GET", "HTTP/1.1 204 No Content\r\n\r\n", "204 ", true, true},
		"304":                       {"GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", "304 ", true, true},
		"HEAD":                      {"HEAD", ok + "Content-Length: 5\r\n\r\n", "200 ", true, true},
		"HEAD of chunked":           {"HEAD", ok + "Transfer-Encoding: chunked\r\n\r\n", "200 ", true, true},
		"HEAD of nothing said":      {"HEAD", ok + "\r\n", "200 ", true, true},
		"interim":                   {"GET", "HTTP/1.1 102 X\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" + ok + "Content-Length: 5\r\n\r\nhello", "102 |103 |200 hello", true, true},
		"no phrase":                 {"GET", "HTTP/1.1 200\r\nContent-Length: 5\r\n\r\nhello", "200 hello", true, true},
		"HEAD with a body":          {"HEAD", ok + "Content-Length: 5\r\n\r\nhello", "200 ", true, false},
		"204 with a body":           {"GET", "HTTP/1.1 204 X\r\nContent-Length: 5\r\n\r\nhello", "204 ", true, false},
		"204 with chunks":           {"GET", "HTTP/1.1 204 X\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "204 ", true, false},
		"304 with a body":           {"GET", "HTTP/1.1 304 X\r\nContent-Length: 5\r\n\r\nhello", "304 ", true, false},
		"more than the length":      {"GET", ok + "Content-Length: 4\r\n\r\nhello", "200 hell", true, false},
		"another response":          {"GET", ok + "Content-Length: 5\r\n\r\nhello" + ok + "Content-Length: 3\r\n\r\nbad", "200 hello", true, false},
		"more than the chunks":      {"GET", ok + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nx", "200 ", true, false},
		"a response behind chunks":  {"GET", ok + "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n" + ok + "\r\n", "200 a", true, false},
		"101 unasked":               {"GET", "HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: y\r\n\r\n", "502 502 Bad Gateway\n", true, false},
		"length and chunks":         {"GET", ok + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "502 502 Bad Gateway\n", true, false},
		"two lengths":               {"GET", ok + "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", "502 502 Bad Gateway\n", true, false},
		"two other lengths":         {"GET", ok + "Content-Length: 5\r\nContent-Length: 4\r\n\r\nhello", "502 502 Bad Gateway\n", true, false},
		"other coding":              {"GET", ok + "Transfer-Encoding: gzip\r\n\r\nhello", "502 502 Bad Gateway\n", true, false},
		"chunked twice":             {"GET", ok + "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", "502 502 Bad Gateway\n", true, false},
		"chunked in 1.0":            {"GET", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "502 502 Bad Gateway\n", true, false},
		"folded":                    {"GET", ok + "A: b\r\n c\r\nContent-Length: 0\r\n\r\n", "502 502 Bad Gateway\n", true, false},
		"bare LF":                   {"GET", "HTTP/1.1 200 OK\nContent-Length: 0\n\n", "502 502 Bad Gateway\n", true, false},
		"split response":            {"GET", ok + "A: b\rSet-Cookie: c\r\nContent-Length: 0\r\n\r\n", "502 502 Bad Gateway\n", true, false},
		"garbage":                   {"GET", "\x16\x03\x01 garbage\r\n\r\n", "502 502 Bad Gateway\n", true, false},
		"nothing":                   {"GET", "", "502 502 Bad Gateway\n", true, false},
		"half a head":               {"GET", ok + "Content-Le", "502 502 Bad Gateway\n", true, false},
		"endless head":              {"GET", ok + "A: " + strings.Repeat("a", 70<<10), "502 502 Bad Gateway\n", true, false},
		"many small interim":        {"GET", strings.Repeat("HTTP/1.1 103 X\r\n\r\n", 5) + ok + "Content-Length: 0\r\n\r\n", "103 |103 |103 |103 |103 |200 ", true, true},
		"length cut":                {"GET", ok + "Content-Length: 6\r\n\r\nhello", "broken", false, false},
		"chunk cut":                 {"GET", ok + "Transfer-Encoding: chunked\r\n\r\n6\r\nhello", "broken", false, false},
		"chunks without last":       {"GET", ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "broken", false, false},
		"trailers cut":              {"GET", ok + "Transfer-Encoding: chunked\r\n\r\n0\r\nA: b\r\n", "broken", false, false},
		"bad chunk size":            {"GET", ok + "Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n", "broken", false, false},
		"bad chunk size later":      {"GET", ok + "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n-1\r\nhello\r\n0\r\n\r\n", "broken", false, false},
		"chunk with bare LF":        {"GET", ok + "Transfer-Encoding: chunked\r\n\r\n1\na\n0\n\n", "broken", false, false},
		"chunk longer than it says": {"GET", ok + "Transfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n0\r\n\r\n", "broken", false, false},
		"bad trailer":               {"GET", ok + "Transfer-Encoding: chunked\r\n\r\n0\r\nA : b\r\n\r\n", "broken", false, false},
		"huge chunk":                {"GET", ok + "Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nabc", "broken", false, false},
	} {
		for _, pace := range []string{"whole", "split"} {
			t.Run(name+", "+pace, func(t *testing.T) {
				b := listen(t, func(conn net.Conn, n int) {
					if n > 0 || c.raw == "" {
						script(fine, fine)(conn, n)
						return
					}
					raw := c.raw
					if pace == "split" && len(raw) < 1000 {
						script(raw[:1])(conn, n)
						for i := 1; i < len(raw); i += 3 {
							time.Sleep(100 * time.Microsecond)
							_, _ = io.WriteString(conn, raw[i:min(len(raw), i+3)])
						}
					} else {
						script(raw)(conn, n)
					}
					if c.reused {
						script(fine, fine)(conn, n)
					}
				})
				if c.raw == "" {
					b.Close()
				}
				s, _ := front(t, "unix", proxying(), app(b.addr))
				second := "GET /second HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
				conn := s.dial(t)
				_, _ = io.WriteString(conn, c.method+" / HTTP/1.1\r\nHost: h\r\n\r\n")
				if !c.reused {
					// The server's connection has gone before the next request.
					s.waitFor(t, "the end of the server's connection", func(k eventCounters) bool { return k.UpstreamIn > 0 && k.UpstreamOpen == 0 || c.raw == "" })
				}
				_, _ = io.WriteString(conn, second)
				raw, _ := io.ReadAll(conn)
				got, whole := answers(string(raw), c.method)
				want := c.want
				if c.kept {
					if c.raw == "" {
						want += "|502 502 Bad Gateway\n"
					} else {
						want += "|200 fine"
					}
				}
				if c.want == "broken" {
					if whole {
						t.Fatalf("a whole answer: %q", raw)
					}
				} else if got != want || !whole {
					t.Fatalf("got %q, whole %v, want %q\n%q", got, whole, want, raw)
				}
				if n := b.accepted(); c.kept && c.raw != "" && (n == 1) != c.reused {
					t.Errorf("%d connections to the server; reused should be %v", n, c.reused)
				}
			})
		}
	}
}

const fine = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine"

// answers reads answers to a method and then GET, as "status body|status body", and reports whether
// they are whole.
func answers(raw, method string) (all string, whole bool) {
	r := newReader(raw)
	for r.Buffered() > 0 || peeks(r) {
		resp, err := http.ReadResponse(r, &http.Request{Method: method})
		if err != nil {
			return all, false
		}
		body, err := io.ReadAll(resp.Body)
		if all != "" {
			all += "|"
		}
		all += fmt.Sprintf("%d %s", resp.StatusCode, body)
		if err != nil {
			return all, false
		}
		if resp.StatusCode >= 200 {
			method = "GET"
		}
	}
	return all, true
}
