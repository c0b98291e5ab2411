package proxy

import (
	"bufio"
	"bytes"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"reuseportd/internal/config"
	"reuseportd/internal/service/http/h1"
	"reuseportd/internal/service/http/message"
)

var (
	stranger = netip.MustParseAddr("192.0.2.7")
	friend   = netip.MustParseAddr("10.1.2.3")
	trusted  = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32")}
)

// forwardHead parses a head and returns the one that the server gets.
func forwardHead(t testing.TB, p *Rules, head string, from netip.Addr) string {
	t.Helper()
	var r message.Request
	var scratch []byte
	n, status := h1.ParseRequest([]byte(head), 0, testLimits, &r, &scratch)
	if n == 0 {
		t.Fatalf("%q is refused with %d", head, status)
	}
	opts, ok := message.Options(nil).Read(r.Lines)
	if !ok {
		t.Fatal("too many options")
	}
	return string(appendRequest(p, &r, from, "server:80", opts))
}

// appendRequest is the head that a server of HTTP/1 gets.
func appendRequest(p *Rules, r *message.Request, from netip.Addr, server string, opts message.Options) []byte {
	var out message.Request
	p.composeRequest(&out, nil, r, p.origin(from), server, opts)
	return h1.AppendRequest(nil, &out)
}

func plainProxy(c config.Proxy) *Rules {
	if c.Host == "" {
		c.Host = config.HostPreserve
	}
	return NewRules(&c, "/", trusted, false)
}

// bare is what is said of the client where that isn't what matters.
const bare = "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: h\r\nForwarded: for=192.0.2.7;host=\"h\";proto=http\r\n"

// TestForwardHead has whole heads, and what a server gets in their place.
func TestForwardHead(t *testing.T) {
	const host = "Host: h\r\n"
	for name, c := range map[string]struct {
		conf config.Proxy
		from netip.Addr
		head string
		want string // "…" is what bare says, "Host: h\r\n" goes without saying
	}{
		"plain":             {head: "GET / HTTP/1.1\r\nHost: h\r\n\r\n", want: "GET / HTTP/1.1\r\n…"},
		"order and form":    {head: "GET / HTTP/1.1\r\nb:2\r\nHOST:h\r\nA:\t1 \r\nb: 3\r\nE:\r\n\r\n", want: "GET / HTTP/1.1\r\nb: 2\r\nA: 1\r\nb: 3\r\nE: \r\n…"},
		"a method":          {head: "BREW /?x HTTP/1.1\r\n" + host + "\r\n", want: "BREW /?x HTTP/1.1\r\n…"},
		"1.0":               {head: "GET / HTTP/1.0\r\n" + host + "Connection: keep-alive\r\nExpect: 100-continue\r\n\r\n", want: "GET / HTTP/1.1\r\n…"},
		"length":            {head: "POST / HTTP/1.1\r\n" + host + "Content-Length: 007\r\nA: b\r\n\r\n", want: "POST / HTTP/1.1\r\nA: b\r\nContent-Length: 7\r\n…"},
		"no content":        {head: "POST / HTTP/1.1\r\n" + host + "Content-Length: 0\r\n\r\n", want: "POST / HTTP/1.1\r\nContent-Length: 0\r\n…"},
		"chunked":           {head: "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding:CHUNKED\r\nTrailer: A\r\n\r\n", want: "POST / HTTP/1.1\r\nTrailer: A\r\nTransfer-Encoding: chunked\r\n…"},
		"trailer of none":   {head: "POST / HTTP/1.1\r\n" + host + "Content-Length: 1\r\nTrailer: A\r\n\r\n", want: "POST / HTTP/1.1\r\nContent-Length: 1\r\n…"},
		"expect":            {head: "POST / HTTP/1.1\r\n" + host + "Expect: 100-Continue\r\nContent-Length: 1\r\n\r\n", want: "POST / HTTP/1.1\r\nExpect: 100-Continue\r\nContent-Length: 1\r\n…"},
		"hop by hop":        {head: "GET / HTTP/1.1\r\n" + host + "Connection: close, X-A\r\nKeep-Alive: 5\r\nproxy-connection: x\r\nX-A: 1\r\nX-a: 2\r\nX-B: 3\r\nTE: gzip\r\nUpgrade: x\r\nProxy-Authorization: y\r\nProxy-Authenticate: z\r\n\r\n", want: "GET / HTTP/1.1\r\nX-B: 3\r\n…"},
		"two Connections":   {head: "GET / HTTP/1.1\r\n" + host + "Connection: x-a\r\nX-A: 1\r\nX-B: 2\r\nconnection: ,x-b,,keep-alive\r\n\r\n", want: "GET / HTTP/1.1\r\n…"},
		"nominated":         {head: "GET / HTTP/1.1\r\n" + host + "Connection: host, X-Forwarded-For, forwarded, X-Forwarded-Proto, content-length, x-set\r\nContent-Length: 1\r\n\r\n", conf: config.Proxy{Request: config.HeaderEdit{Set: []config.Header{{Name: "X-Set", Value: "s"}}}}, want: "GET / HTTP/1.1\r\nContent-Length: 1\r\n…X-Set: s\r\n"},
		"trailers":          {head: "GET / HTTP/1.1\r\n" + host + "TE: gzip;q=1, Trailers\r\nConnection: te\r\n\r\n", want: "GET / HTTP/1.1\r\n…TE: trailers\r\nConnection: TE\r\n"},
		"upgrade":           {head: "GET / HTTP/1.1\r\n" + host + "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n", want: "GET / HTTP/1.1\r\nUpgrade: websocket\r\n…Connection: Upgrade\r\n"},
		"upgrade to HTTP/2": {head: "GET / HTTP/1.1\r\n" + host + "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n\r\n", want: "GET / HTTP/1.1\r\n…"},
		"upgrade with body": {head: "GET / HTTP/1.1\r\n" + host + "Connection: Upgrade\r\nUpgrade: x\r\nContent-Length: 1\r\n\r\n", want: "GET / HTTP/1.1\r\nUpgrade: x\r\nContent-Length: 1\r\n…Connection: Upgrade\r\n"},
		"upgrade in 1.0":    {head: "GET / HTTP/1.0\r\n" + host + "Connection: Upgrade\r\nUpgrade: x\r\n\r\n", want: "GET / HTTP/1.1\r\n…"},
		"underscores":       {head: "GET / HTTP/1.1\r\n" + host + "X_A: 1\r\nx_forwarded_for: 1.1.1.1\r\n\r\n", want: "GET / HTTP/1.1\r\n…"},
		"no expectation":    {head: "POST / HTTP/1.1\r\n" + host + "Expect:\r\nContent-Length: 1\r\n\r\n", want: "POST / HTTP/1.1\r\nContent-Length: 1\r\n…"},
		"a liar":            {head: "GET / HTTP/1.1\r\n" + host + "X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: x\r\nX-Forwarded-Port: 1\r\nForwarded: for=1.1.1.1\r\n\r\n", want: "GET / HTTP/1.1\r\n…"},
		"edited":            {head: "GET / HTTP/1.1\r\n" + host + "Cookie: a\r\nX-A: 1\r\n\r\n", conf: config.Proxy{Request: config.HeaderEdit{Set: []config.Header{{Name: "x-a", Value: "2"}, {Name: "X-A", Value: "3"}, {Name: "Content-Length", Value: "9"}, {Name: "host", Value: "9"}}, Remove: []string{"cookie", "Transfer-Encoding"}}}, want: "GET / HTTP/1.1\r\n…x-a: 2\r\nX-A: 3\r\n"},
		"edited in CGI":     {head: "GET / HTTP/1.1\r\n" + host + "X_User: a\r\nx_set-By: b\r\nX_Us: c\r\n\r\n", conf: config.Proxy{Request: config.HeaderEdit{Set: []config.Header{{Name: "X-Set-By", Value: "s"}}, Remove: []string{"X-User"}}}, want: "GET / HTTP/1.1\r\n…X-Set-By: s\r\n"},
		"own forwarding": {
			head: "GET / HTTP/1.1\r\n" + host + "X-Forwarded-For: 1.1.1.1\r\n\r\n",
			conf: config.Proxy{Request: config.HeaderEdit{Set: []config.Header{{Name: "X-Forwarded-Proto", Value: "https"}}, Remove: []string{"X-Forwarded-For", "X-Forwarded-Host", "Forwarded"}}},
			want: "GET / HTTP/1.1\r\nX-Forwarded-Proto: https\r\n",
		},
		"trusted": {
			from: friend,
			head: "GET / HTTP/1.1\r\n" + host + "X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: x\r\nA: b\r\nX-Forwarded-For: 2.2.2.2, 3.3.3.3\r\nX-Forwarded-Port: 1\r\nForwarded: for=1.1.1.1\r\nConnection: X-Forwarded-For\r\n\r\n",
			want: "GET / HTTP/1.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: x\r\nA: b\r\nX-Forwarded-Port: 1\r\nX-Forwarded-For: 1.1.1.1, 2.2.2.2, 3.3.3.3, 10.1.2.3\r\nForwarded: for=1.1.1.1, for=10.1.2.3;host=\"h\";proto=http\r\n",
		},
		"trusted, silent": {
			from: netip.MustParseAddr("2001:db8::1"), head: "GET / HTTP/1.1\r\n" + host + "\r\n",
			want: "GET / HTTP/1.1\r\nX-Forwarded-For: 2001:db8::1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: h\r\nForwarded: for=\"[2001:db8::1]\";host=\"h\";proto=http\r\n",
		},
		"of a Unix socket": {
			from: netip.Addr{}, head: "GET / HTTP/1.1\r\n" + host + "X-Forwarded-For: 1.1.1.1\r\n\r\n",
			want: "GET / HTTP/1.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: h\r\nForwarded: for=unknown;host=\"h\";proto=http\r\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if c.from == (netip.Addr{}) && name != "of a Unix socket" {
				c.from = stranger
			}
			got := forwardHead(t, plainProxy(c.conf), c.head, c.from)
			want := strings.Replace(strings.Replace(c.want, "…", bare, 1), " HTTP/1.1\r\n", " HTTP/1.1\r\nHost: h\r\n", 1) + "\r\n"
			if got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// TestForwardHost has the Host fields that are sent.
func TestForwardHost(t *testing.T) {
	for _, c := range []struct{ rule, head, want string }{
		{"preserve", "GET / HTTP/1.1\r\nHost: A.b:81\r\n\r\n", "A.b:81"},
		{"preserve", "GET http://C:82/ HTTP/1.1\r\nHost: a\r\n\r\n", "C:82"},
		{"preserve", "GET / HTTP/1.0\r\n\r\n", "server:80"},
		{"preserve", "GET / HTTP/1.0\r\nHost:\r\n\r\n", "server:80"},
		{"preserve", "GET / HTTP/1.1\r\nHost: a.example.\r\n\r\n", "a.example."},
		{"server", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "server:80"},
		{"app.example", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "app.example"},
	} {
		got := forwardHead(t, plainProxy(config.Proxy{Host: c.rule}), c.head, stranger)
		if !strings.Contains(got, "\r\nHost: "+c.want+"\r\n") || strings.Count(strings.ToLower(got), "\r\nhost:") != 1 {
			t.Errorf("%s of %q: got %q, want %s", c.rule, c.head, got, c.want)
		}
	}
}

// TestForwardUnderscores: those that are kept are those that nothing else reads as a field that
// is set or judged here.
func TestForwardUnderscores(t *testing.T) {
	p := NewRules(&config.Proxy{Host: config.HostPreserve}, "/", trusted, true)
	got := forwardHead(t, p, "GET / HTTP/1.1\r\nHost: h\r\nX_A: 1\r\nx_forwarded_for: 1\r\nX-Forwarded_Port: 1\r\nContent_Length: 1\r\nTRANSFER_ENCODING: chunked\r\nProxy_Authorization: 1\r\n_: 2\r\n\r\n", friend)
	if !strings.Contains(got, "X_A: 1\r\n_: 2\r\nX-Forwarded-For: 10.1.2.3\r\n") {
		t.Error(got)
	}
}

// TestForwardTarget has the targets that are sent: the path is the one that came, but for
// dot segments and the route's own part of it.
func TestForwardTarget(t *testing.T) {
	for _, c := range []struct {
		prefix    string
		strip     bool
		sent, got string
	}{
		{"/", false, "/a/b?c=/../d%20e", "/a/b?c=/../d%20e"},
		{"/", false, "/a?", "/a?"},
		{"/", false, "/%61%20b%C3%a9", "/%61%20b%C3%a9"},
		{"/", false, "/a|b\"<>^`{}\\", "/a|b\"<>^`{}\\"},
		{"/", false, "/a%2Fb", "/a%2Fb"},
		{"/", false, "/a%2F%2fb", "/a%2F%2fb"},
		{"/", false, "/a/../b c"[:7], "/b"},
		{"/", false, "/a/%2e%2e/b|%41%20", "/b|%41%20"},
		{"/", false, "/a//b/./", "/a//b/"},
		{"/", false, "/%252e%252e/", "/%252e%252e/"},
		{"/", false, "/a/../%252e", "/%252e"},
		{"/", false, "/../%3f%23%0d%0a", "/%3f%23%0d%0a"},
		{"/", false, "/a/%2F/b//c/", "/a/%2F/b//c/"},
		{"/", false, "//a%2f", "//a%2f"},
		{"/", false, "/.%2e/b/%2E/%2fx/c/..", "/b/%2fx/"},
		{"/", false, "/a/.", "/a/"},
		{"/", false, "/…/é?q=é\xff", "/%E2%80%A6/%C3%A9?q=%C3%A9%FF"},
		{"/api/", false, "//api//%2F/x", "/api//%2F/x"},
		{"/api", false, "//api//%2F/x", "/api//%2F/x"},
		{"/api", true, "/api/%2F/x//", "/%2F/x//"},
		{"/api/v1/", false, "/api%2fv1//x", "/api/v1//x"},
		{"/", false, "http://h?x=1", "/?x=1"},
		{"/", false, "http://h/y", "/y"},
		{"/", true, "/x/", "/x/"},
		{"/api/", false, "/api/a%2Fb", "/api/a%2Fb"},
		{"/api/", false, "/api%2Fa", "/api/a"},
		{"/api/", false, "/%61pi/a", "/%61pi/a"},
		{"/api/", true, "/api/a%2Fb?q", "/a%2Fb?q"},
		{"/api/", true, "/api/", "/"},
		{"/api/", true, "/api%2Fa|", "/a|"},
		{"/api/", true, "/%61p%69/%2561", "/%2561"},
		{"/api/", true, "/x/../api/y", "/y"},
		{"/api", true, "/api", "/"},
		{"/api", true, "/api?q", "/?q"},
		{"/api", true, "/api/x", "/x"},
		{"/api", true, "/api%2Fx", "/x"},
		{"/api", false, "/api%2Fx%20", "/api/x%20"},
		{"/api", true, "/api//x", "//x"},
		{"/a b", true, "/a%20b/c%20", "/c%20"},
	} {
		p := NewRules(&config.Proxy{Host: "preserve", StripPrefix: c.strip}, c.prefix, nil, false)
		head := forwardHead(t, p, "GET "+c.sent+" HTTP/1.1\r\nHost: h\r\n\r\n", stranger)
		if got, _, _ := strings.Cut(strings.TrimPrefix(head, "GET "), " HTTP/1.1\r\n"); got != c.got {
			t.Errorf("%s at %s (%v): got %s, want %s", c.sent, c.prefix, c.strip, got, c.got)
		}
	}
}

// TestForwardTooManyOptions: a head can't have every field compared with every option.
func TestForwardTooManyOptions(t *testing.T) {
	for n, want := range map[int]bool{message.MaxOptions: true, message.MaxOptions + 1: false} {
		lines := []byte("Connection: a" + strings.Repeat(",b", n-1) + "\r\n")
		if _, ok := message.Options(nil).Read(lines); ok != want {
			t.Errorf("%d options: %v", n, ok)
		}
	}
}

func TestForwardAllocatesNothing(t *testing.T) {
	p := plainProxy(config.Proxy{Request: config.HeaderEdit{Remove: []string{"Cookie"}, Set: []config.Header{{Name: "A", Value: "b"}}}})
	head := []byte("GET /a%20b/../c?d HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, x\r\nX: y\r\nCookie: z\r\nX-Forwarded-For: 1.1.1.1\r\n\r\n")
	var r, out message.Request
	var buf []byte
	scratch, room, opts := make([]byte, 0, 100), make([]byte, 0, 1000), make(message.Options, 0, message.MaxOptions)
	if n := testing.AllocsPerRun(100, func() {
		h1.ParseRequest(head, 0, testLimits, &r, &scratch)
		opts, _ = opts.Read(r.Lines)
		buf = p.composeRequest(&out, buf, &r, p.origin(friend), "server", opts)
		h1.AppendRequest(room, &out)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzForward: whatever is accepted goes on as exactly one request, which both this
// parser and that of net/http read as it was judged here.
func FuzzForward(f *testing.F) {
	for _, s := range []string{
		"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"POST /api%2Fx/../y?z HTTP/1.1\r\nHost: a:1\r\nContent-Length: 5\r\nConnection: x, content-length\r\nX: y\r\n\r\n",
		"POST /api/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: x\r\nTE: trailers\r\n\r\n",
		"GET http://b HTTP/1.0\r\nConnection: Upgrade\r\nUpgrade: x\r\nX-Forwarded-For: x\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	whole := plainProxy(config.Proxy{})
	strip := NewRules(&config.Proxy{Host: "preserve", StripPrefix: true}, "/api", trusted, false)
	f.Fuzz(func(t *testing.T, in []byte) {
		var r, again message.Request
		var scratch, scratch2 []byte
		n, _ := h1.ParseRequest(in, 0, testLimits, &r, &scratch)
		if n == 0 || string(r.Path) == "*" {
			return
		}
		opts, ok := message.Options(nil).Read(r.Lines)
		if !ok {
			return
		}
		out := appendRequest(whole, &r, friend, "server:80", opts)
		lim := h1.Limits{Line: 1 << 20, Head: 1 << 20}
		m, status := h1.ParseRequest(out, 0, lim, &again, &scratch2)
		if m != len(out) || status != 0 {
			t.Fatalf("%q became %q, of which %d are a head: %d", in[:n], out, m, status)
		}
		if !bytes.Equal(r.Method, again.Method) || !bytes.Equal(r.Path, again.Path) || !bytes.Equal(message.AppendASCII(nil, r.Query), again.Query) ||
			r.Chunked != again.Chunked || r.Length != again.Length || r.Expect != again.Expect || r.Upgrade != again.Upgrade {
			t.Fatalf("%q became %q:\n%+v\n%+v", in[:n], out, r, again)
		}
		if !bytes.ContainsAny(r.Target, "%[]\"<>\\^`{|}:@?*") {
			req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(out)))
			if err != nil {
				t.Fatalf("net/http refuses %q: %v", out, err)
			}
			if length := req.ContentLength; r.Chunked != (length == -1) || !r.Chunked && length != r.Length {
				t.Fatalf("net/http reads a length of %d in %q", length, out)
			}
			_ = req.Body.Close()
		}
		if path := string(r.Path); path == "/api" || strings.HasPrefix(path, "/api/") {
			out = appendRequest(strip, &r, stranger, "server:80", opts)
			m, status = h1.ParseRequest(out, 0, lim, &again, &scratch2)
			if want := "/" + strings.TrimPrefix(strings.TrimPrefix(path, "/api"), "/"); m != len(out) || status != 0 || string(again.Path) != want {
				t.Fatalf("%q became %q: %d, %d, path %q instead of %q", in[:n], out, m, status, again.Path, want)
			}
		}
	})
}
