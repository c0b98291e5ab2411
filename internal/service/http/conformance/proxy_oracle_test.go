package conformance

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"io"
	"log"
	"math/rand"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// recorder is a server that answers with what it is told, and notes the requests that it got
// as net/http understands them.
type recorder struct {
	*backend
	mu     sync.Mutex
	answer string
	got    string
}

func record(t testing.TB) *recorder {
	r := new(recorder)
	r.backend = listen(t, func(c net.Conn, _ int) {
		in := bufio.NewReader(c)
		for {
			req, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			body, err := io.ReadAll(req.Body)
			if err != nil {
				return
			}
			r.mu.Lock()
			r.got = fmt.Sprintf("%s %s of %s\n%s\n%s\n%s", req.Method, req.RequestURI, req.Host, listed(req.Header), digest(body), listed(req.Trailer))
			answer := r.answer
			r.mu.Unlock()
			if _, err := io.WriteString(c, answer); err != nil || strings.Contains(answer, "until close") {
				return
			}
		}
	})
	return r
}

// ownFields are those in which the two proxies are known to differ: what only one of
// them sets, and what each says on its own of a connection and of framing.
var ownFields = []string{"Forwarded", "Connection", "Content-Length", "Date", "Transfer-Encoding", "User-Agent", "Trailer"}

// listed writes fields down in one order, but for those in which the two proxies are known to
// differ.
func listed(h http.Header) string {
	var all []string
	for name, values := range h {
		if !slices.Contains(ownFields, name) {
			all = append(all, fmt.Sprintf("%s: %q", name, values))
		}
	}
	slices.Sort(all)
	return strings.Join(all, "\n")
}

func digest(body []byte) string { return fmt.Sprintf("%d bytes %.8x", len(body), sha256.Sum256(body)) }

// ask sends a request to a proxy and returns what came back as net/http understands it.
func ask(t testing.TB, network, addr, request, method string) string {
	t.Helper()
	c, err := net.Dial(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	go io.WriteString(c, request)
	r := bufio.NewReader(c)
	var b strings.Builder
	for {
		resp, err := http.ReadResponse(r, &http.Request{Method: method})
		if err != nil {
			return b.String() + err.Error()
		}
		body, err := io.ReadAll(resp.Body)
		fmt.Fprintf(&b, "%d\n%s\n%s %v\n%s\ndated %v\n", resp.StatusCode, listed(resp.Header), digest(body), err, listed(resp.Trailer), resp.Header.Get("Date") != "" || resp.StatusCode < 200)
		if resp.StatusCode >= 200 {
			return b.String()
		}
	}
}

// TestProxyLikeReverseProxy has random requests and responses go through this proxy and through
// net/http/httputil.ReverseProxy: what arrives at either end is the same, but for ownFields.
func TestProxyLikeReverseProxy(t *testing.T) {
	rec := record(t)
	conf := proxying()
	conf.UnderscoresInHeaders = true
	s, _ := front(t, "tcp", conf, app(rec.addr))
	target, _ := url.Parse("http://" + rec.addr)
	other := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.SetXForwarded()
			r.Out.Host = r.In.Host
		},
		Transport: &http.Transport{DisableCompression: true},
		ErrorLog:  log.New(io.Discard, "", 0),
	})
	defer other.Close()
	rnd := rand.New(rand.NewSource(7))
	for i := range 200 {
		method, request := randomRequest(rnd)
		answer := randomResponse(rnd, method)
		if strings.Contains(request, " HTTP/1.0\r\n") {
			// ReverseProxy sends interim responses to clients that don't know them.
			if i := strings.Index(answer, "\r\n\r\nHTTP/"); i >= 0 {
				answer = answer[i+4:]
			}
		}
		var seen, came [2]string
		for k, addr := range []string{s.addr, other.Listener.Addr().String()} {
			rec.mu.Lock()
			rec.answer, rec.got = answer, ""
			rec.mu.Unlock()
			came[k] = ask(t, "tcp", addr, request, method)
			rec.mu.Lock()
			seen[k] = rec.got
			rec.mu.Unlock()
		}
		if seen[0] != seen[1] {
			t.Fatalf("%d: the server saw of %.1000q\n%s\nand by ReverseProxy\n%s", i, request, seen[0], seen[1])
		}
		if came[0] != came[1] {
			t.Fatalf("%d: of %.1000q to %.1000q came\n%s\nand by ReverseProxy\n%s", i, answer, request, came[0], came[1])
		}
	}
}

func pick(rnd *rand.Rand, from ...string) string { return from[rnd.Intn(len(from))] }

// some returns up to n of the lines, in any order.
func some(rnd *rand.Rand, n int, from ...string) string {
	var b strings.Builder
	for _, i := range rnd.Perm(len(from))[:rnd.Intn(n+1)] {
		b.WriteString(from[i])
	}
	return b.String()
}

func randomRequest(rnd *rand.Rand) (method, raw string) {
	method = pick(rnd, "GET", "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW")
	target := pick(rnd, "/", "/a/b.c", "/a%20b", "/a%2Fb", "/a;b=c,d", "/a:b@c", "/%C3%BC", "/a/", "/x-y_z.~") +
		pick(rnd, "", "?", "?q", "?a=b&c=d", "?a=%20+b", "?/../x")
	version := pick(rnd, "1.1", "1.1", "1.1", "1.0")
	fields := some(rnd, 8,
		"Accept: */*\r\n", "Cookie: a=b; c=d\r\n", "X-A: 1\r\n", "x-a: 2\r\n", "X-Empty:\r\n", "X-Space:\t a  b \r\n",
		"X_Under: y\r\n", "Authorization: Basic eA==\r\n", "X-Forwarded-For: 1.2.3.4\r\n", "X-Forwarded-Proto: https\r\n",
		"X-Forwarded-Host: evil\r\n", "Forwarded: for=1.2.3.4\r\n", "Keep-Alive: 300\r\n", "Proxy-Connection: keep-alive\r\n",
		"Proxy-Authorization: x\r\n", "Connection: X-Hop, keep-alive\r\nX-Hop: gone\r\nx-hop: too\r\n", "TE: trailers, deflate\r\n",
		"Range: bytes=0-1\r\n", "If-None-Match: \"x\"\r\n", "Accept-Encoding: gzip\r\n", "Upgrade: x\r\n", "X-Bytes: \xe4\xf6\r\n",
		"Connection: close\r\n", "Max-Forwards: 3\r\n", "Via: 1.0 x\r\n", "Date: Tue, 15 Nov 1994 08:12:31 GMT\r\n",
	)
	body := ""
	switch pick(rnd, "none", "none", "length", "chunked") { // ReverseProxy loses trailers of requests
	case "length":
		body = strings.Repeat("b", rnd.Intn(3)*rnd.Intn(50_000))
		fields += fmt.Sprintf("Content-Length: %d\r\n", len(body))
	case "chunked":
		if version == "1.1" {
			fields += "Transfer-Encoding: chunked\r\n"
			body = "5;x=\"y\"\r\nhello\r\n3\r\nabc\r\n0\r\n\r\n"
		}
	}
	return method, method + " " + target + " HTTP/" + version + "\r\nHost: " + pick(rnd, "h", "H.example:8080", "[::1]:80") + "\r\n" + fields + "\r\n" + body
}

func randomResponse(rnd *rand.Rand, method string) string {
	interim := some(rnd, 1, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", "HTTP/1.1 102 Processing\r\n\r\n")
	fields := "Content-Type: text/plain\r\n" + some(rnd, 7,
		"Server: x\r\n", "Set-Cookie: a=b\r\n", "set-cookie: c=d\r\n", "ETag: \"x\"\r\n", "X-A:  1 \r\n", "Location: /x\r\n",
		// With close, net/http forgets the other options.
		pick(rnd, "Connection: X-Hop\r\nX-Hop: gone\r\n", "Connection: close\r\n"), "Keep-Alive: timeout=5\r\n", "Proxy-Authenticate: x\r\n",
		"Date: Tue, 15 Nov 1994 08:12:31 GMT\r\n", "Content-Encoding: gzip\r\n", "Content-Range: bytes 0-1/2\r\n", "Upgrade: y\r\n", "Vary: *\r\n",
		"X-Bytes: \xe4\xf6\r\n", "WWW-Authenticate: Basic\r\n", "Retry-After: 3\r\n", "Cache-Control: no-store\r\n",
	)
	status := pick(rnd, "200 OK", "200 OK", "201 Created", "302 Found", "404 Nope", "500 Oh no", "599 Own", "204 No Content", "304 Not Modified")
	if status[0] == '2' && status[2] == '4' || status[:3] == "304" {
		// net/http takes the type off where there is no content.
		return interim + "HTTP/1.1 " + status + "\r\n" + strings.TrimPrefix(fields, "Content-Type: text/plain\r\n") + "\r\n"
	}
	body := strings.Repeat("0123456789", rnd.Intn(3)*rnd.Intn(9000))
	if method == "HEAD" {
		return interim + "HTTP/1.1 " + status + "\r\n" + fields + fmt.Sprintf("Content-Length: %d\r\n\r\n", len(body))
	}
	switch pick(rnd, "length", "length", "chunked", "trailers", "close", "1.0") {
	case "chunked":
		return interim + "HTTP/1.1 " + status + "\r\n" + fields + "Transfer-Encoding: chunked\r\n\r\n" + fmt.Sprintf("3\r\nabc\r\n0%x;a=b\r\n%s\r\n0\r\n\r\n", len(body)+1, body+"x")
	case "trailers":
		return interim + "HTTP/1.1 " + status + "\r\n" + fields + "Transfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n1\r\na\r\n0\r\nX-T: v\r\n\r\n"
	case "close":
		return interim + "HTTP/1.1 " + status + "\r\n" + fields + "X-Ends: until close\r\n\r\n" + body
	case "1.0":
		return "HTTP/1.0 " + status + "\r\n" + fields + "X-Ends: until close\r\n\r\n" + body
	}
	return interim + "HTTP/1.1 " + status + "\r\n" + fields + fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body)
}
