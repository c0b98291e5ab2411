package h1

import (
	"bufio"
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"reuseportd/internal/service/http/message"
)

var testLimits = Limits{Line: 256, Head: 1024, Body: 1 << 20}

// TestRefusals has what must be refused, and with what.
func TestRefusals(t *testing.T) {
	const host = "Host: a\r\n"
	for name, tc := range map[string]struct {
		head   string
		status int
	}{
		"length and coding":         {"POST / HTTP/1.1\r\n" + host + "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
		"two lengths":               {"POST / HTTP/1.1\r\n" + host + "Content-Length: 1\r\nContent-Length: 1\r\n\r\n", 400},
		"two lengths in one field":  {"POST / HTTP/1.1\r\n" + host + "Content-Length: 1, 1\r\n\r\n", 400},
		"two codings":               {"POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
		"unknown coding":            {"POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: gzip, chunked\r\n\r\n", 501},
		"coding with a tail":        {"POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunkedx\r\n\r\n", 501},
		"coding in HTTP/1.0":        {"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
		"signed length":             {"POST / HTTP/1.1\r\n" + host + "Content-Length: +1\r\n\r\n", 400},
		"negative length":           {"POST / HTTP/1.1\r\n" + host + "Content-Length: -1\r\n\r\n", 400},
		"hexadecimal length":        {"POST / HTTP/1.1\r\n" + host + "Content-Length: 0x1\r\n\r\n", 400},
		"empty length":              {"POST / HTTP/1.1\r\n" + host + "Content-Length:\r\n\r\n", 400},
		"huge length":               {"POST / HTTP/1.1\r\n" + host + "Content-Length: 99999999999999999999\r\n\r\n", 400},
		"bare CR in a value":        {"GET / HTTP/1.1\r\n" + host + "X: a\rb\r\n\r\n", 400},
		"bare CR in the line":       {"GET /\r HTTP/1.1\r\n" + host + "\r\n", 400},
		"bare LF":                   {"GET / HTTP/1.1\nHost: a\n\n", 400},
		"bare LF in a value":        {"GET / HTTP/1.1\r\n" + host + "X: a\nb\r\n\r\n", 400},
		"space before the colon":    {"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400},
		"folded line":               {"GET / HTTP/1.1\r\n" + host + "X: a\r\n b\r\n\r\n", 400},
		"folded first line":         {"GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400},
		"no colon":                  {"GET / HTTP/1.1\r\n" + host + "X\r\n\r\n", 400},
		"empty name":                {"GET / HTTP/1.1\r\n" + host + ": a\r\n\r\n", 400},
		"NUL in a value":            {"GET / HTTP/1.1\r\n" + host + "X: a\x00\r\n\r\n", 400},
		"no Host":                   {"GET / HTTP/1.1\r\n\r\n", 400},
		"two Hosts":                 {"GET / HTTP/1.1\r\n" + host + host + "\r\n", 400},
		"two Hosts in HTTP/1.0":     {"GET / HTTP/1.0\r\n" + host + host + "\r\n", 400},
		"bad Host":                  {"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400},
		"Host with a path":          {"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400},
		"Host with a user":          {"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", 400},
		"Host with a bad port":      {"GET / HTTP/1.1\r\nHost: a:8x\r\n\r\n", 400},
		"unclosed IPv6 Host":        {"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", 400},
		"bad Host under a target":   {"GET http://b/ HTTP/1.1\r\nHost: a b\r\n\r\n", 400},
		"target without authority":  {"GET http:///x HTTP/1.1\r\n" + host + "\r\n", 400},
		"other scheme":              {"GET ftp://a/ HTTP/1.1\r\n" + host + "\r\n", 400},
		"relative target":           {"GET x HTTP/1.1\r\n" + host + "\r\n", 400},
		"asterisk for GET":          {"GET * HTTP/1.1\r\n" + host + "\r\n", 400},
		"CONNECT":                   {"CONNECT a:443 HTTP/1.1\r\n" + host + "\r\n", 501},
		"fragment":                  {"GET /#a HTTP/1.1\r\n" + host + "\r\n", 400},
		"bad escape":                {"GET /%2 HTTP/1.1\r\n" + host + "\r\n", 400},
		"escaped NUL":               {"GET /%00 HTTP/1.1\r\n" + host + "\r\n", 400},
		"two spaces":                {"GET  / HTTP/1.1\r\n" + host + "\r\n", 400},
		"space at the end":          {"GET / HTTP/1.1 \r\n" + host + "\r\n", 400},
		"tab for a space":           {"GET\t/ HTTP/1.1\r\n" + host + "\r\n", 400},
		"bad method":                {"G@T / HTTP/1.1\r\n" + host + "\r\n", 400},
		"no version":                {"GET /\r\n" + host + "\r\n", 400},
		"lower-case version":        {"GET / http/1.1\r\n" + host + "\r\n", 400},
		"version 2":                 {"GET / HTTP/2.0\r\n" + host + "\r\n", 505},
		"version 1.10":              {"GET / HTTP/1.10\r\n" + host + "\r\n", 400},
		"two empty lines first":     {"\r\n\r\nGET / HTTP/1.1\r\n" + host + "\r\n", 400},
		"long line":                 {"GET /" + strings.Repeat("a", 300) + " HTTP/1.1\r\n" + host + "\r\n", 414},
		"endless line":              {"GET /" + strings.Repeat("a", 300), 414},
		"long head":                 {"GET / HTTP/1.1\r\n" + host + "X: " + strings.Repeat("a", 1100) + "\r\n\r\n", 431},
		"endless head":              {"GET / HTTP/1.1\r\n" + host + "X: " + strings.Repeat("a", 1100), 431},
		"expectation":               {"POST / HTTP/1.1\r\n" + host + "Expect: miracles\r\nContent-Length: 1\r\n\r\n", 417},
		"pipelined behind bare LFs": {"GET / HTTP/1.1\nHost: a\n\nGET / HTTP/1.1\r\n" + host + "\r\n", 400},
	} {
		t.Run(name, func(t *testing.T) {
			var r message.Request
			var scratch []byte
			n, status := ParseRequest([]byte(tc.head), 0, testLimits, &r, &scratch)
			if n != 0 || status != tc.status {
				t.Errorf("got %d bytes and status %d, want status %d", n, status, tc.status)
			}
		})
	}
}

// TestTargets has how targets and hosts are read.
func TestTargets(t *testing.T) {
	for _, tc := range []struct{ target, host, wantHost, wantPath, wantQuery string }{
		{"/", "a", "a", "/", ""},
		{"/a/b?c=/../d", "A.b:80", "a.b", "/a/b", "c=/../d"},
		{"/%61%2fb/", "[::1]:80", "[::1]", "/a/b/", ""},
		{"/a/../b", "a", "a", "/b", ""},
		{"/a/%2e%2e/b", "a", "a", "/b", ""},
		{"/a%2f..%2f..%2fetc", "a", "a", "/etc", ""},
		{"/../../etc/passwd", "a", "a", "/etc/passwd", ""},
		{"/a/.", "a", "a", "/a/", ""},
		{"/a/..", "a", "a", "/", ""},
		{"/..", "a", "a", "/", ""},
		{"//a///b//", "a", "a", "/a/b/", ""},
		{"/.a/..b/...", "a", "a", "/.a/..b/...", ""},
		{"/%252e%252e/", "a", "a", "/%2e%2e/", ""},
		{"http://B:1/x?q", "a", "b", "/x", "q"},
		{"http://b", "a", "b", "/", ""},
		{"HTTPS://b?q", "a", "b", "/", "q"},
		{"/é", "a", "a", "/é", ""},
		{"/", "A.example.:80", "a.example", "/", ""},
	} {
		var r message.Request
		var scratch []byte
		head := "GET " + tc.target + " HTTP/1.1\r\nHost: " + tc.host + "\r\n\r\n"
		n, status := ParseRequest([]byte(head), 0, testLimits, &r, &scratch)
		got := fmt.Sprintf("%d %d %s %s %s", n, status, r.Host, r.Path, r.Query)
		want := fmt.Sprintf("%d 0 %s %s %s", len(head), tc.wantHost, tc.wantPath, tc.wantQuery)
		if got != want {
			t.Errorf("%s at %s: got %q, want %q", tc.target, tc.host, got, want)
		}
	}
}

// parseSplit parses as a loop would that sees ever more of the input.
func parseSplit(in []byte, r *message.Request) (n, status int) {
	var scratch []byte
	from := 0
	for end := range len(in) + 1 {
		if n, status = ParseRequest(in[:end], from, testLimits, r, &scratch); n != 0 || status != 0 {
			return n, status
		}
		from = end
	}
	return 0, 0
}

// FuzzParse compares the parser with that of net/http. What it accepts, net/http
// must accept and read alike; the reverse does not hold, as this one is stricter.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"POST /x?y HTTP/1.1\r\nHost: a:1\r\nContent-Length: 5\r\n\r\nhello",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close, te\r\n\r\n0\r\n\r\n",
		"GET http://b/ HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
		"OPTIONS * HTTP/1.1\r\nHost: [::1]:80\r\nRange: bytes=0-1\r\n\r\n",
		"\r\nGET /%2e/a//b HTTP/1.1\r\nhost:a\r\nX:\ty \r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		var r, split message.Request
		var scratch []byte
		n, status := ParseRequest(in, 0, testLimits, &r, &scratch)
		if n > 0 && status > 0 || n < 0 || n > len(in) {
			t.Fatalf("n %d, status %d of %d bytes", n, status, len(in))
		}
		// An error may be seen earlier when the input comes in pieces, and a
		// different one, but what is accepted must be so either way.
		m, other := parseSplit(in, &split)
		if n != m || (status == 0) != (other == 0) && n > 0 {
			t.Fatalf("whole: %d, %d; in pieces: %d, %d", n, status, m, other)
		}
		if n == 0 {
			return
		}
		compare(t, in, n, &r)
	})
}

func compare(t *testing.T, in []byte, n int, r *message.Request) {
	if r.Path == nil || r.Path[0] != '/' && string(r.Path) != "*" {
		t.Fatalf("path %q", r.Path)
	}
	for _, bad := range []string{"/../", "/./", "//", "\x00"} {
		if bytes.Contains(append(bytes.Clone(r.Path), '/'), []byte(bad)) && !bytes.HasSuffix(r.Path, []byte("/")) {
			t.Fatalf("path %q has %q", r.Path, bad)
		}
	}
	want, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(in)))
	if err != nil {
		if tolerated(in, r) {
			return
		}
		t.Fatalf("net/http refuses %q: %v", in[:n], err)
	}
	if want.Method != string(r.Method) {
		t.Fatalf("method %q, net/http %q", r.Method, want.Method)
	}
	length := want.ContentLength
	if r.Chunked != (length == -1) || !r.Chunked && length != r.Length {
		t.Fatalf("chunked %v, length %d; net/http %d", r.Chunked, r.Length, length)
	}
	if r.Minor == 1 && want.ProtoMinor >= 1 && r.KeepAlive == want.Close && !hasConnection(want) {
		t.Fatalf("keep-alive %v, net/http close %v", r.KeepAlive, want.Close)
	}
}

func hasConnection(r *http.Request) bool { return len(r.Header["Connection"]) > 0 }

// tolerated are the heads that net/http refuses and this parser takes: what it
// demands of a URL is more than a server of its kind needs.
func tolerated(in []byte, r *message.Request) bool {
	return bytes.HasPrefix(in, []byte("\r\n")) || // it skips no empty line
		bytes.ContainsAny(r.Target, "%[]\"<>\\^`{|}:@?*") // net/url's own rules
}

// What is refused for its target still tells the access log which it was.
func TestRefusedTargetIsKnown(t *testing.T) {
	for _, target := range []string{"/caf\xc3\xa9?id=1%27", "/a#b", "/\x7f", "/x"} {
		var r message.Request
		var scratch []byte
		_, status := ParseRequest([]byte("GET "+target+" HTTP/1.1\r\nHost: a b\r\n\r\n"), 0, Limits{Line: 100, Head: 200}, &r, &scratch)
		if status != 400 || string(r.Target) != target {
			t.Errorf("%q: status %d, target %q", target, status, r.Target)
		}
	}
}
