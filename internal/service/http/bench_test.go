package http

import (
	"testing"

	"reuseportd/internal/config"
	"reuseportd/internal/eventloop"
	"reuseportd/internal/service/http/h1"
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
			lim := h1.Limits{Line: 8 << 10, Head: 32 << 10, Body: 1 << 20}
			var r message.Request
			scratch := make([]byte, 0, 1024)
			b.SetBytes(int64(len(in)))
			b.ReportAllocs()
			for b.Loop() {
				if n, status := h1.ParseRequest(in, 0, lim, &r, &scratch); n != len(in) || status != 0 {
					b.Fatal(n, status)
				}
			}
		})
	}
}

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
	y := reply{framing: h1.ByLength}
	b.ReportAllocs()
	for b.Loop() {
		h1.ParseRequest(in, 0, lim, &r, &scratch)
		p.appendRequest(room, &r, o, "server", nil)
		h1.ParseResponse(out, 0, &resp)
		p.appendResponse(room, &resp, &y)
	}
}

// BenchmarkFixed is what a fixed answer costs but for the loop and system calls: from the
// request's bytes to the answer's.
func BenchmarkFixed(b *testing.B) {
	site, err := NewSite(&config.HTTP{
		MaxRequestLine: 8 << 10, MaxHeader: 32 << 10, MaxBody: 1 << 20,
		Routes: []config.Route{
			{Path: "/", Respond: &config.Respond{Status: 200, Body: []byte("hello\n")}},
			{Path: "/healthz", Respond: &config.Respond{Status: 204}},
		},
	}, Options{AccessLog: -1})
	if err != nil {
		b.Fatal(err)
	}
	defer site.Close()
	h := newHandler(newLoop(b), site, nil)
	in := []byte("GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n")
	room := make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		if n, status := h1.ParseRequest(in, 0, site.limit, &h.req, &h.scratch); n != len(in) || status != 0 {
			b.Fatal(n, status)
		}
		f := site.find(&h.req).respond
		out := append(h.endHead(append(room, f.head...), !h.req.KeepAlive), f.body...)
		if len(out) < len(f.head) {
			b.Fatal("no answer")
		}
	}
}

func newLoop(b *testing.B) *eventloop.Loop {
	b.Helper()
	l, err := eventloop.New(eventloop.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { // Run gives back what New took
		l.Stop()
		if err := l.Run(); err != nil {
			b.Error(err)
		}
	})
	return l
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
			var r message.Response
			b.SetBytes(int64(len(in)))
			b.ReportAllocs()
			for b.Loop() {
				if n, ok := h1.ParseResponse(in, 0, &r); n != len(in) || !ok {
					b.Fatal(n, ok)
				}
				p.appendResponse(room, &r, &reply{framing: h1.ByLength})
			}
		})
	}
}
