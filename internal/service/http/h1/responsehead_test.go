package h1

import (
	"fmt"
	"strings"
	"testing"

	"reuseportd/internal/service/http/message"
)

// TestResponseHeads has heads, and how they are understood: "malformed", or status,
// framing and whether the connection lives.
func TestResponseHeads(t *testing.T) {
	names := map[Framing]string{NoContent: "none", ByLength: "length", ByChunks: "chunks", ToClose: "close"}
	for name, c := range map[string]struct{ head, want string }{
		"length":                   {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "200 length true"},
		"chunked":                  {"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n", "200 chunks true"},
		"until close":              {"HTTP/1.1 200 OK\r\n\r\n", "200 close true"},
		"empty":                    {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "200 none true"},
		"204":                      {"HTTP/1.1 204 No Content\r\n\r\n", "204 none true"},
		"204 with a length":        {"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", "204 none true"},
		"304":                      {"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", "304 none true"},
		"100":                      {"HTTP/1.1 100 Continue\r\n\r\n", "100 none true"},
		"101":                      {"HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: y\r\n\r\n", "101 none true upgrade"},
		"101 to nothing":           {"HTTP/1.1 101 X\r\nConnection: Upgrade\r\n\r\n", "101 none true"},
		"no phrase":                {"HTTP/1.1 200 \r\nContent-Length: 1\r\n\r\n", "200 length true"},
		"no phrase and no space":   {"HTTP/1.1 200\r\nContent-Length: 1\r\n\r\n", "200 length true"},
		"any code":                 {"HTTP/1.1 999 X\r\nContent-Length: 1\r\n\r\n", "999 length true"},
		"close":                    {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: x, Close\r\n\r\n", "200 length false"},
		"1.0":                      {"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n", "200 length false"},
		"1.0 kept":                 {"HTTP/1.0 200 OK\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\n", "200 length true"},
		"1.9":                      {"HTTP/1.9 200 OK\r\nContent-Length: 1\r\n\r\n", "200 length true"},
		"two lengths":              {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", "malformed"},
		"a list of lengths":        {"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n", "malformed"},
		"signed length":            {"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n", "malformed"},
		"no length":                {"HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n", "malformed"},
		"huge length":              {"HTTP/1.1 200 OK\r\nContent-Length: 9999999999999999999\r\n\r\n", "malformed"},
		"length and coding":        {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", "malformed"},
		"coding and length":        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", "malformed"},
		"two codings":              {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", "malformed"},
		"other coding":             {"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "malformed"},
		"identity":                 {"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\n", "malformed"},
		"coding in 1.0":            {"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "malformed"},
		"coding with vertical tab": {"HTTP/1.1 200 OK\r\nTransfer-Encoding: \x0bchunked\r\n\r\n", "malformed"},
		"folded":                   {"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", "malformed"},
		"folded first":             {"HTTP/1.1 200 OK\r\n A: b\r\n\r\n", "malformed"},
		"space before a colon":     {"HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\n", "malformed"},
		"bare LF":                  {"HTTP/1.1 200 OK\nContent-Length: 5\n\n", "malformed"},
		"bare LF in the head":      {"HTTP/1.1 200 OK\r\nA: b\nC: d\r\n\r\n", "malformed"},
		"bare CR":                  {"HTTP/1.1 200 OK\r\nA: b\rC: d\r\n\r\n", "malformed"},
		"bare CR in the line":      {"HTTP/1.1 200 O\rK\r\n\r\n", "malformed"},
		"NUL":                      {"HTTP/1.1 200 OK\r\nA: \x00\r\n\r\n", "malformed"},
		"no name":                  {"HTTP/1.1 200 OK\r\n: b\r\n\r\n", "malformed"},
		"no colon":                 {"HTTP/1.1 200 OK\r\nA\r\n\r\n", "malformed"},
		"an empty line first":      {"\r\nHTTP/1.1 200 OK\r\n\r\n", "malformed"},
		"version 2":                {"HTTP/2.0 200 OK\r\n\r\n", "malformed"},
		"long version":             {"HTTP/1.10 200 OK\r\n\r\n", "malformed"},
		"lower case":               {"http/1.1 200 OK\r\n\r\n", "malformed"},
		"two digits":               {"HTTP/1.1 20 OK\r\n\r\n", "malformed"},
		"four digits":              {"HTTP/1.1 2000 OK\r\n\r\n", "malformed"},
		"a zero first":             {"HTTP/1.1 099 OK\r\n\r\n", "malformed"},
		"two spaces":               {"HTTP/1.1  200 OK\r\n\r\n", "malformed"},
		"no response":              {"SSH-2.0-x\r\n", "malformed"},
		"a request":                {"GET / HTTP/1.1\r\n\r\n", "malformed"},
		"too long":                 {"HTTP/1.1 200 OK\r\nA: " + strings.Repeat("a", MaxResponseHead-23) + "\r\n\r\n", "malformed"},
		"too long without end":     {"HTTP/1.1 200 OK\r\nA: " + strings.Repeat("a", MaxResponseHead), "malformed"},
		"longest":                  {"HTTP/1.1 200 OK\r\nA: " + strings.Repeat("a", MaxResponseHead-24) + "\r\n\r\n", "200 close true"},
	} {
		t.Run(name, func(t *testing.T) {
			var r message.Response
			n, ok := ParseResponse([]byte(c.head), 0, &r)
			got := "malformed"
			if ok && n > 0 {
				got = fmt.Sprint(r.Status, " ", names[FramingOf(&r, false)], " ", r.KeepAlive)
			}
			if r.Upgrade {
				got += " upgrade"
			}
			if got != c.want || ok && n != len(c.head) {
				t.Errorf("got %s (%d of %d), want %s", got, n, len(c.head), c.want)
			}
		})
	}
}
