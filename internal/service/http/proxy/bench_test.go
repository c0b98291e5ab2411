package proxy

import (
	"testing"

	"reuseportd/internal/config"
	"reuseportd/internal/service/http/h1"
	"reuseportd/internal/service/http/message"
)

// BenchmarkForward is what a proxied exchange costs but for system calls: both heads read, and
// written anew.
func BenchmarkForward(b *testing.B) {
	p := plainProxy(config.Proxy{})
	in := []byte("GET /static/app.css?v=12 HTTP/1.1\r\nHost: www.example.com\r\n" +
		"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n" +
		"Accept: text/css,*/*;q=0.1\r\nAccept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n" +
		"Connection: keep-alive\r\nReferer: https://www.example.com/\r\n\r\n")
	out := []byte("HTTP/1.1 200 OK\r\nServer: app\r\nContent-Type: text/css\r\nCache-Control: max-age=60\r\n" +
		"Date: Tue, 15 Nov 1994 08:12:31 GMT\r\nContent-Length: 5\r\n\r\n")
	lim := h1.Limits{Line: 8 << 10, Head: 32 << 10, Body: 1 << 20}
	var r message.Request
	var resp message.Response
	scratch, room := make([]byte, 0, 1024), make([]byte, 0, 4096)
	o := p.origin(stranger)
	var sent message.Request
	var answered message.Response
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		h1.ParseRequest(in, 0, lim, &r, &scratch)
		buf = p.composeRequest(&sent, buf, &r, o, "server", nil)
		h1.AppendRequest(room, &sent)
		h1.ParseResponse(out, 0, &resp)
		buf = p.composeResponse(&answered, buf, &resp, true)
		h1.AppendResponse(room, &answered, h1.ByLength, nil)
	}
}

// BenchmarkResponse is a server's head read, and written anew.
func BenchmarkResponse(b *testing.B) {
	p := plainProxy(config.Proxy{})
	for _, c := range []struct{ name, head string }{
		{"plain", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"},
		{"app", "HTTP/1.1 200 OK\r\nServer: app\r\nContent-Type: text/html; charset=utf-8\r\nCache-Control: max-age=60\r\n" +
			"Date: Tue, 15 Nov 1994 08:12:31 GMT\r\nSet-Cookie: id=0123456789abcdef; Path=/; HttpOnly\r\nVary: Accept-Encoding\r\n" +
			"ETag: \"33a64df5\"\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n"},
	} {
		b.Run(c.name, func(b *testing.B) {
			in, room := []byte(c.head), make([]byte, 0, 4096)
			var r, answered message.Response
			var buf []byte
			b.SetBytes(int64(len(in)))
			b.ReportAllocs()
			for b.Loop() {
				if n, ok := h1.ParseResponse(in, 0, &r); n != len(in) || !ok {
					b.Fatal(n, ok)
				}
				buf = p.composeResponse(&answered, buf, &r, true)
				h1.AppendResponse(room, &answered, h1.ByLength, nil)
			}
		})
	}
}
