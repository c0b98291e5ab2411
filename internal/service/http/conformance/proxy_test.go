package conformance

import (
	"strings"
	"testing"
)

// TestProxy passes requests of every framing on, pipelined on one connection, whole and
// split everywhere.
func TestProxy(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			b := listen(t, echoBack)
			s, _ := front(t, network, proxying(), app(b.addr))
			in := "GET /a?b HTTP/1.1\r\nHost: h\r\n\r\n" +
				"POST /c HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello" +
				"POST /d HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4;x\r\ndefg\r\n0\r\nA: b\r\n\r\n" +
				"HEAD /e HTTP/1.1\r\nHost: h\r\n\r\n" +
				"POST /f HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\nx" +
				"GET /g HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
			check := func(raw string) {
				t.Helper()
				all := parseAll(t, raw, "GET", "POST", "POST", "HEAD", "POST", "GET")
				var got []string
				for _, a := range all {
					got = append(got, a.header.Get("X-Line")+" "+a.body)
				}
				if want := "GET /a?b |POST /c hello|POST /d abcdefg|HEAD /e |POST /f x|GET /g "; strings.Join(got, "|") != want {
					t.Fatalf("got  %s\nwant %s\n%s", strings.Join(got, "|"), want, raw)
				}
				if !all[5].close {
					t.Error("the last answer doesn't say so")
				}
			}
			check(s.feed(t, in))
			for i := 1; i < len(in); i += 7 {
				check(s.feed(t, in[:i], in[i:]))
			}
			if n := b.accepted(); n > 5 {
				t.Errorf("%d connections were made", n)
			}
			if k := s.count(); k.UpstreamOpen != 1 {
				t.Errorf("%d connections are kept", k.UpstreamOpen)
			}
		})
	}
}
