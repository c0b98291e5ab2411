package h1

import (
	"testing"

	"reuseportd/internal/service/http/message"
)

// BenchmarkParse reads the heads of a load generator, of a browser, and one that
// needs decoding.
func BenchmarkParse(b *testing.B) {
	for name, head := range map[string]string{
		"wrk": "GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n",
		"browser": "GET /static/app.css?v=12 HTTP/1.1\r\nHost: www.example.com\r\n" +
			"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n" +
			"Accept: text/css,*/*;q=0.1\r\nAccept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n" +
			"Connection: keep-alive\r\nReferer: https://www.example.com/\r\nIf-None-Match: \"1887f2a3-2bc\"\r\n" +
			"Sec-Fetch-Dest: style\r\nSec-Fetch-Mode: no-cors\r\nSec-Fetch-Site: same-origin\r\n\r\n",
		"escaped": "GET /a%20b/../c%2Fd HTTP/1.1\r\nHost: WWW.example.com\r\n\r\n",
	} {
		b.Run(name, func(b *testing.B) {
			in := []byte(head)
			lim := Limits{Line: 8 << 10, Head: 32 << 10, Body: 1 << 20}
			var r message.Request
			scratch := make([]byte, 0, 1024)
			b.SetBytes(int64(len(in)))
			b.ReportAllocs()
			for b.Loop() {
				if n, status := ParseRequest(in, 0, lim, &r, &scratch); n != len(in) || status != 0 {
					b.Fatal(n, status)
				}
			}
		})
	}
}
