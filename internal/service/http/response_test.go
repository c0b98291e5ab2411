package http

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"reuseportd/internal/config"
	"reuseportd/internal/service/http/h1"
	"reuseportd/internal/service/http/message"
)

// TestResponseHeads has heads, and how they are understood: "malformed", or status,
// framing and whether the connection lives.
func TestResponseHeads(t *testing.T) {
	names := map[h1.Framing]string{h1.NoContent: "none", h1.ByLength: "length", h1.ByChunks: "chunks", h1.ToClose: "close"}
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
		"too long":                 {"HTTP/1.1 200 OK\r\nA: " + strings.Repeat("a", h1.MaxResponseHead-23) + "\r\n\r\n", "malformed"},
		"too long without end":     {"HTTP/1.1 200 OK\r\nA: " + strings.Repeat("a", h1.MaxResponseHead), "malformed"},
		"longest":                  {"HTTP/1.1 200 OK\r\nA: " + strings.Repeat("a", h1.MaxResponseHead-24) + "\r\n\r\n", "200 close true"},
	} {
		t.Run(name, func(t *testing.T) {
			var r message.Response
			n, ok := h1.ParseResponse([]byte(c.head), 0, &r)
			got := "malformed"
			if ok && n > 0 {
				got = fmt.Sprint(r.Status, " ", names[h1.FramingOf(&r, false)], " ", r.KeepAlive)
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

// replyHead returns the head that a client gets for a server's.
func replyHead(t testing.TB, p *proxy, head string, framed h1.Framing) string {
	t.Helper()
	var r message.Response
	if n, ok := h1.ParseResponse([]byte(head), 0, &r); n != len(head) || !ok {
		t.Fatalf("%q: %d, %v", head, n, ok)
	}
	opts, _ := message.Options(nil).Read(r.Lines)
	return string(p.appendResponse(nil, &r, &reply{framing: framed, date: []byte("Date: now\r\n"), opts: opts}))
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
	var r message.Response
	room, opts := make([]byte, 0, 1000), make(message.Options, 0, message.MaxOptions)
	if n := testing.AllocsPerRun(100, func() {
		h1.ParseResponse(head, 0, &r)
		opts, _ = opts.Read(r.Lines)
		p.appendResponse(room, &r, &reply{framing: h1.ByLength, opts: opts, date: head[:2]})
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
		opts, ok := message.Options(nil).Read(r.Lines)
		if !ok {
			return
		}
		y := reply{framing: framed, opts: opts, date: []byte("Date: now\r\n")}
		if framed == h1.ToClose {
			y.framing = h1.ByChunks
		}
		out := append(p.appendResponse(nil, &r, &y), "\r\n"...)
		var again message.Response
		if m, ok := h1.ParseResponse(out, 0, &again); m != len(out) || !ok || h1.FramingOf(&again, head) != y.framing || again.Status != r.Status || again.MoreOptions > 0 {
			t.Fatalf("%q became %q: %d, %v, %+v", in[:n], out, m, ok, again)
		}
		compareResponse(t, out, method, &again, y.framing)
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
