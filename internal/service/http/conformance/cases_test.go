package conformance

import (
	"strings"
	"testing"

	service "reuseportd/internal/service/http"
)

// last ends a connection that is kept.
const last = "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"

// cases are requests and the statuses of their answers. "…" stands for the
// request last, which only a kept connection still answers.
var cases = []struct{ name, in, want string }{
	{"get", "GET / HTTP/1.1\r\nHost: h\r\n\r\n…", "200 200"},
	{"head", "HEAD / HTTP/1.1\r\nHost: h\r\n\r\n…", "200 200"},
	{"any method", "BREW / HTTP/1.1\r\nHost: h\r\n\r\n…", "200 200"},
	{"no content", "GET /none HTTP/1.1\r\nHost: h\r\n\r\n…", "204 200"},
	{"pipelined", "GET / HTTP/1.1\r\nHost: h\r\n\r\nHEAD /a/ HTTP/1.1\r\nHost: h\r\n\r\nGET /none HTTP/1.1\r\nHost: h\r\n\r\n…", "200 200 204 200"},
	{"pipelined behind a large body", "GET /big HTTP/1.1\r\nHost: h\r\n\r\nGET /big HTTP/1.1\r\nHost: h\r\n\r\n…", "200 200 200"},
	{"close", "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n…", "200"},
	{"close in a list", "GET / HTTP/1.1\r\nHost: h\r\nConnection: x, CLOSE\r\n\r\n…", "200"},
	{"close beats keep-alive", "GET / HTTP/1.1\r\nHost: h\r\nConnection: keep-alive\r\nConnection: close\r\n\r\n…", "200"},
	{"1.0", "GET / HTTP/1.0\r\n\r\n…", "200"},
	{"1.0 kept", "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n…", "200 200"},
	{"1.2 is 1.1", "GET / HTTP/1.2\r\nHost: h\r\n\r\n…", "200 200"},
	{"an empty line first", "\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n…", "200 200"},
	{"an empty line between", "GET / HTTP/1.1\r\nHost: h\r\n\r\n\r\n…", "200 200"},
	{"query", "GET /?a=/../%zz HTTP/1.1\r\nHost: h\r\n\r\n…", "200 200"},
	{"no value", "GET / HTTP/1.1\r\nHost: h\r\nX:\r\n\r\n…", "200 200"},
	{"white space round values", "GET / HTTP/1.1\r\nHost:\t h \t\r\nX: \ta\t b \r\n\r\n…", "200 200"},
	{"obs-text", "GET / HTTP/1.1\r\nHost: h\r\nX: \xff\x80\r\n\r\n…", "200 200"},

	{"length", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello…", "200 200"},
	{"length 0", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n…", "200 200"},
	{"length with zeros", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 005\r\n\r\nhello…", "200 200"},
	{"body of a GET", "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 18\r\n\r\nGET / HTTP/1.1\r\n\r\n…", "200 200"},
	{"body for nobody", "POST /only HTTP/1.1\r\nHost: nobody.example\r\nContent-Length: 2\r\n\r\nhi…", "200 200"},
	{"largest body", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4096\r\n\r\n" + strings.Repeat("b", 4096) + "…", "200 200"},
	{"chunked", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nA\r\n0123456789\r\n0\r\n\r\n…", "200 200"},
	{"Chunked", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: Chunked\r\n\r\n0\r\n\r\n…", "200 200"},
	{"chunk extensions", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b;c=\"d;e\"\r\nhello\r\n0;x\r\n\r\n…", "200 200"},
	{"trailers", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nA: b\r\nHost: x\r\n\r\n…", "200 200"},
	{"expect", "POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-Continue\r\nContent-Length: 0\r\n\r\n…", "200 200"},

	{"absolute", "GET http://OTHER.example:80/ HTTP/1.1\r\nHost: h\r\n\r\n…", "200 200"},
	{"absolute without path", "GET http://other.example HTTP/1.1\r\nHost: h\r\n\r\n…", "200 200"},
	{"absolute with query only", "GET http://other.example?x HTTP/1.1\r\nHost: h\r\n\r\n…", "200 200"},
	{"absolute, empty authority", "GET http:///x HTTP/1.1\r\nHost: h\r\n\r\n…", "400"},
	{"absolute, user information", "GET http://u@h/ HTTP/1.1\r\nHost: h\r\n\r\n…", "400"},
	{"absolute, other scheme", "GET ftp://h/ HTTP/1.1\r\nHost: h\r\n\r\n…", "400"},
	{"absolute, Host missing", "GET http://h/ HTTP/1.1\r\n\r\n…", "400"},
	{"absolute, Host invalid", "GET http://h/ HTTP/1.1\r\nHost: a b\r\n\r\n…", "400"},
	{"asterisk", "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n…", "204 200"},
	{"asterisk for GET", "GET * HTTP/1.1\r\nHost: h\r\n\r\n…", "400"},
	{"absolute, Host empty", "GET http://h/ HTTP/1.1\r\nHost:\r\n\r\n…", "400"},
	{"raw UTF-8", "GET /é?ü HTTP/1.1\r\nHost: h\r\n\r\n…", "200 200"},
	{"encoded slashes", "GET /a/%2F//%2f HTTP/1.1\r\nHost: h\r\n\r\n…", "200 200"},
	{"DEL in a target", "GET /\x7f HTTP/1.1\r\nHost: h\r\n\r\n…", "400"},
	{"connect", "CONNECT h:443 HTTP/1.1\r\nHost: h\r\n\r\n…", "501"},
	{"target without slash", "GET x HTTP/1.1\r\nHost: h\r\n\r\n…", "400"},
	{"fragment", "GET /#x HTTP/1.1\r\nHost: h\r\n\r\n…", "400"},
	{"bad escape", "GET /%zz HTTP/1.1\r\nHost: h\r\n\r\n…", "400"},
	{"half an escape", "GET /%4 HTTP/1.1\r\nHost: h\r\n\r\n…", "400"},
	{"NUL in a path", "GET /%00 HTTP/1.1\r\nHost: h\r\n\r\n…", "400"},
	{"space in a target", "GET /a b HTTP/1.1\r\nHost: h\r\n\r\n…", "400"},
	{"tab in a target", "GET /a\tb HTTP/1.1\r\nHost: h\r\n\r\n…", "400"},

	{"no version", "GET /\r\nHost: h\r\n\r\n…", "400"},
	{"lower case version", "GET / http/1.1\r\nHost: h\r\n\r\n…", "400"},
	{"long version", "GET / HTTP/1.10\r\nHost: h\r\n\r\n…", "400"},
	{"2.0", "GET / HTTP/2.0\r\nHost: h\r\n\r\n…", "505"},
	{"preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505"},
	{"0.9", "GET / HTTP/0.9\r\nHost: h\r\n\r\n…", "505"},
	{"two spaces", "GET  / HTTP/1.1\r\nHost: h\r\n\r\n…", "400"},
	{"space before the method", " GET / HTTP/1.1\r\nHost: h\r\n\r\n…", "400"},
	{"space behind the version", "GET / HTTP/1.1 \r\nHost: h\r\n\r\n…", "400"},
	{"method no token", "G@T / HTTP/1.1\r\nHost: h\r\n\r\n…", "400"},
	{"a TLS handshake", "\x16\x03\x01\x02\x00\x01", "400"},
	{"two empty lines", "\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n…", "400"},

	{"no Host", "GET / HTTP/1.1\r\n\r\n…", "400"},
	{"empty Host", "GET / HTTP/1.1\r\nHost:\r\n\r\n…", "400"},
	{"empty Host in 1.0", "GET / HTTP/1.0\r\nHost:\r\n\r\n…", "200"},
	{"Host with a dot at its end", "GET / HTTP/1.1\r\nHost: h.\r\n\r\n…", "200 200"},
	{"two Hosts", "GET / HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n…", "400"},
	{"two Hosts in 1.0", "GET / HTTP/1.0\r\nHost: h\r\nHost: h\r\n\r\n…", "400"},
	{"list of Hosts", "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n…", "400"},
	{"slash in Host", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n…", "400"},
	{"user in Host", "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n…", "400"},
	{"letters in a port", "GET / HTTP/1.1\r\nHost: a:8x\r\n\r\n…", "400"},
	{"two ports", "GET / HTTP/1.1\r\nHost: a:8:9\r\n\r\n…", "400"},
	{"half a literal", "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n…", "400"},

	{"space before a colon", "GET / HTTP/1.1\r\nHost : h\r\n\r\n…", "400"},
	{"no colon", "GET / HTTP/1.1\r\nHost: h\r\nx\r\n\r\n…", "400"},
	{"no name", "GET / HTTP/1.1\r\nHost: h\r\n: x\r\n\r\n…", "400"},
	{"folded", "GET / HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n\r\n…", "400"},
	{"folded first", "GET / HTTP/1.1\r\n Host: h\r\n\r\n…", "400"},
	{"bare CR in a value", "GET / HTTP/1.1\r\nHost: h\r\nX: a\rb\r\n\r\n…", "400"},
	{"bare CR in a line", "GET / HTTP/1.1\rHost: h\r\n\r\n…", "400"},
	{"bare CR, and no more", "GET / HTTP/1.1\r\nHost: h\r\nX: a\rb", "400"},
	{"bare CR first, and no more", "\rG", "400"},
	{"bare CR in a chunk's size, and no more", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\rh", "400"},
	{"no CR behind a chunk, and no more", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab", "400"},
	{"blank behind a chunk's size", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1 \r\na\r\n0\r\n\r\n…", "400"},
	{"no expectation", "POST / HTTP/1.1\r\nHost: h\r\nExpect:\r\nContent-Length: 0\r\n\r\n…", "200 200"},
	{"bare LF after the line", "GET / HTTP/1.1\nHost: h\r\n\r\n…", "400"},
	{"bare LF after a field", "GET / HTTP/1.1\r\nHost: h\n\r\n…", "400"},
	{"bare LF at the end", "GET / HTTP/1.1\r\nHost: h\r\n\n…", "400"},
	{"all bare LF", "GET / HTTP/1.1\nHost: h\n\n", "400"},
	{"NUL in a value", "GET / HTTP/1.1\r\nHost: h\r\nX: a\x00b\r\n\r\n…", "400"},
	{"DEL in a value", "GET / HTTP/1.1\r\nHost: h\r\nX: a\x7fb\r\n\r\n…", "400"},
	{"control in a name", "GET / HTTP/1.1\r\nHost: h\r\nX\x01: a\r\n\r\n…", "400"},

	{"length and coding", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n…", "400"},
	{"coding and length", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n…", "400"},
	{"coding in 1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n…", "400"},
	{"two codings", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n…", "400"},
	{"unknown coding, then chunked", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n…", "501"},
	{"lengths differ", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc…", "400"},
	{"list of lengths", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3, 4\r\n\r\nabc…", "400"},
	{"length +", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: +3\r\n\r\nabc…", "400"},
	{"length -", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: -3\r\n\r\nabc…", "400"},
	{"length 0x", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0x3\r\n\r\nabc…", "400"},
	{"length with a space", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3 3\r\n\r\nabc…", "400"},
	{"length empty", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length:\r\n\r\n…", "400"},
	{"length too large", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4097\r\n\r\n…", "413"},

	{"chunk size 0x", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n…", "400"},
	{"chunk size +", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n+1\r\na\r\n0\r\n\r\n…", "400"},
	{"chunk size -", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\na\r\n0\r\n\r\n…", "400"},
	{"chunk size empty", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n\r\na\r\n0\r\n\r\n…", "400"},
	{"chunk size overflows", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000001\r\na\r\n0\r\n\r\n…", "400"},
	{"chunk size behind a space", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n 1\r\na\r\n0\r\n\r\n…", "400"},
	{"chunk longer than its size", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n…", "400"},
	{"chunk with bare LF", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\na\r\n0\r\n\r\n…", "400"},
	{"chunk extension with bare LF", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1;x\na\r\n0\r\n\r\n…", "400"},
	{"chunk extension with bare CR", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1;x\ry\r\na\r\n0\r\n\r\n…", "400"},
	{"bad trailer", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA : b\r\n\r\n…", "400"},
	{"chunks too large", "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1001\r\n", "413"},
	{"other expectation", "POST / HTTP/1.1\r\nHost: h\r\nExpect: tea\r\nContent-Length: 0\r\n\r\n…", "417"},

	{"longest line", "GET /" + strings.Repeat("a", 512-14) + " HTTP/1.1\r\nHost: h\r\n\r\n…", "200 200"},
	{"line too long", "GET /" + strings.Repeat("a", 512-13) + " HTTP/1.1\r\nHost: h\r\n\r\n…", "414"},
	{"endless line", "GET /" + strings.Repeat("a", 600), "414"},
	{"longest head", "GET / HTTP/1.1\r\nHost: h\r\nX: " + strings.Repeat("a", 2048-32) + "\r\n\r\n…", "200 200"},
	{"head too long", "GET / HTTP/1.1\r\nHost: h\r\nX: " + strings.Repeat("a", 2048-31) + "\r\n\r\n…", "431"},
	{"endless head", "GET / HTTP/1.1\r\nHost: h\r\nX: " + strings.Repeat("a", 2100), "431"},
}

// methods names those of the requests in a case, as far as they matter.
func methodsOf(in string) []string {
	var all []string
	for _, line := range strings.Split(in, "\r\n") {
		if m, rest, ok := strings.Cut(line, " /"); ok && strings.Contains(rest, " HTTP/1.") {
			all = append(all, m)
		}
	}
	return all
}

// TestConformance sends every case whole.
func TestConformance(t *testing.T) {
	s := serve(t, "unix", base(""), service.Options{AccessLog: -1})
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			raw := s.feed(t, strings.Replace(c.in, "…", last, 1))
			all := parseAll(t, raw, methodsOf(c.in)...)
			if got := statuses(all); got != c.want {
				t.Fatalf("got %s, want %s\n%s", got, c.want, raw)
			}
			if !all[len(all)-1].close {
				t.Errorf("the last answer doesn't say Connection: close\n%s", raw)
			}
			for _, a := range all {
				if a.header.Get("Date") == "" || a.header.Get("Server") != "reuseportd" {
					t.Errorf("no Date or Server: %v", a.header)
				}
			}
		})
	}
}

// TestSplits sends every case in two parts, split at each place, and then byte
// by byte: the answers are the same ones.
func TestSplits(t *testing.T) {
	s := serve(t, "unix", base(""), service.Options{AccessLog: -1})
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			in := strings.Replace(c.in, "…", last, 1)
			want := undated(s.feed(t, in))
			// A client that asked for the end and sends on has no claim on a tidy one:
			// what follows is sent with the request's last byte.
			end := len(in)
			if c.want == "200" {
				end = strings.Index(c.in, "…")
			}
			step := 1 + end/150
			if testing.Short() {
				step = 1 + end/10
			}
			for i := 1; i < end; i += step {
				if got := undated(s.feed(t, in[:i], in[i:])); got != want {
					t.Fatalf("split at %d (%q | %q):\n%q\nwhole:\n%q", i, in[max(0, i-20):i], in[i:min(len(in), i+20)], got, want)
				}
			}
			if end > 600 || testing.Short() {
				return
			}
			bytes := append(strings.Split(in[:end-1], ""), in[end-1:])
			if got := undated(s.feed(t, bytes...)); got != want {
				t.Fatalf("byte by byte:\n%q\nwhole:\n%q", got, want)
			}
		})
	}
}
