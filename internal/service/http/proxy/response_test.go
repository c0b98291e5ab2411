package proxy

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"testing"

	"reuseportd/internal/config"
	"reuseportd/internal/service/http/h1"
	"reuseportd/internal/service/http/message"
)

// replyHead returns the head that a client gets for a server's.
func replyHead(t testing.TB, p *Rules, head string, framed h1.Framing) string {
	t.Helper()
	var r message.Response
	if n, ok := h1.ParseResponse([]byte(head), 0, &r); n != len(head) || !ok {
		t.Fatalf("%q: %d, %v", head, n, ok)
	}
	r.Named, _ = message.Options(nil).Read(r.Lines)
	var out message.Response
	p.composeResponse(&out, nil, &r, framed == h1.ByChunks)
	return string(h1.AppendResponse(nil, &out, framed, []byte("Date: now\r\n")))
}

// TestReplyHead has heads, and what a client gets in their place.
func TestReplyHead(t *testing.T) {
	edited := config.Proxy{Response: config.HeaderEdit{Remove: []string{"server", "Connection"}, Set: []config.Header{{Name: "X-A", Value: "2"}, {Name: "Content-Length", Value: "7"}}}}
	for name, c := range map[string]struct {
		conf       config.Proxy
		framed     h1.Framing
		head, want string
	}{
		"length":       {config.Proxy{}, h1.ByLength, "HTTP/1.1 200 Fine\r\nserver:x\r\nContent-Length: 05\r\nA: b\r\n\r\n", "HTTP/1.1 200 Fine\r\nserver: x\r\nA: b\r\nDate: now\r\nContent-Length: 5\r\n"},
		"dated":        {config.Proxy{}, h1.ByLength, "HTTP/1.0 200 OK\r\nDate: then\r\nContent-Length: 5\r\n\r\n", "HTTP/1.1 200 OK\r\nDate: then\r\nContent-Length: 5\r\n"},
		"chunks":       {config.Proxy{}, h1.ByChunks, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n", "HTTP/1.1 200 OK\r\nTrailer: X\r\nDate: now\r\nTransfer-Encoding: chunked\r\n"},
		"now chunks":   {config.Proxy{}, h1.ByChunks, "HTTP/1.0 200 OK\r\nTrailer: X\r\n\r\n", "HTTP/1.1 200 OK\r\nDate: now\r\nTransfer-Encoding: chunked\r\n"},
		"now close":    {config.Proxy{}, h1.ToClose, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n", "HTTP/1.1 200 OK\r\nDate: now\r\n"},
		"no phrase":    {config.Proxy{}, h1.NoContent, "HTTP/1.1 404\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 404 Not Found\r\nDate: now\r\nContent-Length: 0\r\n"},
		"odd status":   {config.Proxy{}, h1.NoContent, "HTTP/1.1 799\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 799 \r\nDate: now\r\nContent-Length: 0\r\n"},
		"204":          {config.Proxy{}, h1.NoContent, "HTTP/1.1 204 X\r\nContent-Length: 5\r\n\r\n", "HTTP/1.1 204 X\r\nDate: now\r\n"},
		"304":          {config.Proxy{}, h1.NoContent, "HTTP/1.1 304 X\r\nContent-Length: 5\r\n\r\n", "HTTP/1.1 304 X\r\nDate: now\r\nContent-Length: 5\r\n"},
		"103":          {edited, h1.NoContent, "HTTP/1.1 103 Early Hints\r\nLink: x\r\nServer: y\r\nContent-Length: 3\r\n\r\n", "HTTP/1.1 103 Early Hints\r\nLink: x\r\n"},
		"101":          {config.Proxy{}, h1.NoContent, "HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: ws\r\nSec-A: b\r\n\r\n", "HTTP/1.1 101 X\r\nUpgrade: ws\r\nSec-A: b\r\n"},
		"hop by hop":   {config.Proxy{}, h1.NoContent, "HTTP/1.1 426 X\r\nConnection: close, A\r\nA: b\r\nUpgrade: ws\r\nKeep-Alive: 3\r\nProxy-Authenticate: x\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 426 X\r\nUpgrade: ws\r\nConnection: Upgrade\r\nDate: now\r\nContent-Length: 0\r\n"},
		"set cookies":  {config.Proxy{}, h1.NoContent, "HTTP/1.1 200 X\r\nSet-Cookie: a\r\nset-cookie: b\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 200 X\r\nSet-Cookie: a\r\nset-cookie: b\r\nDate: now\r\nContent-Length: 0\r\n"},
		"edited":       {edited, h1.NoContent, "HTTP/1.1 200 X\r\nServer: a\r\nx-a: 1\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 200 X\r\nDate: now\r\nContent-Length: 0\r\nX-A: 2\r\n"},
		"date removed": {config.Proxy{Response: config.HeaderEdit{Remove: []string{"Date"}}}, h1.NoContent, "HTTP/1.1 200 X\r\nDate: a\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 200 X\r\nContent-Length: 0\r\n"},
	} {
		if got := replyHead(t, plainProxy(c.conf), c.head, c.framed); got != c.want {
			t.Errorf("%s: got\n%s\nwant\n%s", name, got, c.want)
		}
	}
}

func TestResponseAllocatesNothing(t *testing.T) {
	p := plainProxy(config.Proxy{})
	head := []byte("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nServer: x\r\nConnection: keep-alive, y\r\nY: z\r\n\r\n")
	var r, out message.Response
	var buf []byte
	room, opts := make([]byte, 0, 1000), make(message.Options, 0, message.MaxOptions)
	if n := testing.AllocsPerRun(100, func() {
		h1.ParseResponse(head, 0, &r)
		opts, _ = opts.Read(r.Lines)
		r.Named = opts
		buf = p.composeResponse(&out, buf, &r, true)
		h1.AppendResponse(room, &out, h1.ByLength, head[:2])
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzResponse: what is accepted net/http accepts too, and reads alike, both as it came and
// as it goes on.
func FuzzResponse(f *testing.F) {
	for _, s := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "HTTP/1.0 204\r\nConnection: keep-alive\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close, a\r\nA: b\r\n\r\n0\r\n\r\n", "HTTP/1.1 304 x\r\nContent-Length: 9\r\n\r\n",
	} {
		f.Add([]byte(s), false)
	}
	p := plainProxy(config.Proxy{})
	f.Fuzz(func(t *testing.T, in []byte, head bool) {
		var r message.Response
		n, ok := h1.ParseResponse(in, 0, &r)
		if n == 0 && ok || !ok {
			return
		}
		method := "GET"
		if head {
			method = "HEAD"
		}
		framed := h1.FramingOf(&r, head)
		compareResponse(t, in, method, &r, framed)
		if r.Named, ok = message.Options(nil).Read(r.Lines); !ok {
			return
		}
		if framed == h1.ToClose {
			framed = h1.ByChunks
		}
		var made message.Response
		p.composeResponse(&made, nil, &r, true)
		out := append(h1.AppendResponse(nil, &made, framed, []byte("Date: now\r\n")), "\r\n"...)
		var again message.Response
		if m, ok := h1.ParseResponse(out, 0, &again); m != len(out) || !ok || h1.FramingOf(&again, head) != framed || again.Status != r.Status || again.MoreOptions > 0 {
			t.Fatalf("%q became %q: %d, %v, %+v", in[:n], out, m, ok, again)
		}
		compareResponse(t, out, method, &again, framed)
	})
}

func compareResponse(t *testing.T, in []byte, method string, r *message.Response, framed h1.Framing) {
	resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(in)), &http.Request{Method: method})
	if err != nil {
		t.Fatalf("net/http refuses %q: %v", in, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != r.Status {
		t.Fatalf("status %d, net/http %d", r.Status, resp.StatusCode)
	}
	chunked := len(resp.TransferEncoding) > 0
	switch {
	case framed == h1.ByChunks && !chunked,
		framed == h1.ByLength && (resp.ContentLength != r.Length || chunked),
		framed == h1.ToClose && (resp.ContentLength != -1 || chunked):
		t.Fatalf("framed %d in %q; net/http: %d, %v", framed, in, resp.ContentLength, resp.TransferEncoding)
	case framed == h1.NoContent:
		if body, _ := io.ReadAll(resp.Body); len(body) > 0 {
			t.Fatalf("no content in %q; net/http reads %q", in, body)
		}
	}
}
