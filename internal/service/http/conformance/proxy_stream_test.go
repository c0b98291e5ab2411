package conformance

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"reuseportd/internal/config"
	service "reuseportd/internal/service/http"
)

// TestProxyStreams: what a server says is passed on at once, piece by piece, whatever the
// framing, to clients of either version.
func TestProxyStreams(t *testing.T) {
	for _, framing := range []string{"Transfer-Encoding: chunked\r\n", "Content-Length: 1000\r\n", ""} {
		for _, minor := range []string{"0", "1"} {
			t.Run(framing+minor, func(t *testing.T) {
				heard := make(chan bool)
				b := listen(t, func(c net.Conn, _ int) {
					_, _ = http.ReadRequest(bufio.NewReader(c))
					_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"+framing+"\r\n")
					for i := range 10 {
						<-heard
						piece := fmt.Sprintf("data: %d\n\n", i)
						if strings.Contains(framing, "chunked") {
							piece = fmt.Sprintf("%x;x=y\r\n%s\r\n", len(piece), piece)
						}
						_, _ = io.WriteString(c, piece)
					}
				})
				s, _ := front(t, "tcp", proxying(), app(b.addr))
				c := s.dial(t)
				fmt.Fprintf(c, "GET / HTTP/1.%s\r\nHost: h\r\n\r\n", minor)
				resp, err := http.ReadResponse(bufio.NewReader(c), nil)
				if err != nil {
					t.Fatal(err)
				}
				body := bufio.NewReader(resp.Body)
				for i := range 10 {
					heard <- true
					line, err := body.ReadString('\n')
					if want := fmt.Sprintf("data: %d\n", i); line != want || err != nil {
						t.Fatalf("got %q, %v, want %q", line, err, want)
					}
					_, _ = body.ReadString('\n')
				}
				if _, err := body.ReadByte(); err == io.EOF && (framing != "") {
					t.Error("a body that was broken off looks whole")
				}
			})
		}
	}
}

// TestProxyRequestStreams: what a client sends is passed on at once.
func TestProxyRequestStreams(t *testing.T) {
	for _, framing := range []string{"Transfer-Encoding: chunked\r\n", "Content-Length: 10\r\n"} {
		pieces := make(chan string)
		b := listen(t, func(c net.Conn, _ int) {
			req, err := http.ReadRequest(bufio.NewReader(c))
			if err != nil {
				return
			}
			one := make([]byte, 2)
			for {
				if _, err := io.ReadFull(req.Body, one); err != nil {
					break
				}
				pieces <- string(one)
			}
			_, _ = io.WriteString(c, fine)
		})
		s, _ := front(t, "tcp", proxying(), app(b.addr))
		c := s.dial(t)
		fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: h\r\n%s\r\n", framing)
		for i := range 5 {
			piece := fmt.Sprintf("%02d", i)
			if strings.Contains(framing, "chunked") {
				fmt.Fprintf(c, "2\r\n%s\r\n", piece)
			} else {
				_, _ = io.WriteString(c, piece)
			}
			if got := <-pieces; got != piece {
				t.Fatalf("got %q, want %q", got, piece)
			}
		}
		if strings.Contains(framing, "chunked") {
			_, _ = io.WriteString(c, "0\r\n\r\n")
		}
		if a := read(t, bufio.NewReader(c), "POST"); a.body != "fine" {
			t.Errorf("%+v", a)
		}
	}
}

// TestProxyExpect: the server says whether a body is wanted.
func TestProxyExpect(t *testing.T) {
	const head = "POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
	b := listen(t, func(c net.Conn, _ int) {
		r := bufio.NewReader(c)
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			if req.Header.Get("Expect") != "100-continue" || r.Buffered() > 0 {
				_, _ = io.WriteString(c, "HTTP/1.1 417 X\r\nContent-Length: 0\r\n\r\n")
				continue
			}
			_, _ = io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n")
			_, _ = io.Copy(io.Discard, req.Body)
			_, _ = io.WriteString(c, fine)
		}
	})
	s, _ := front(t, "tcp", proxying(), app(b.addr))
	c := s.dial(t)
	r := bufio.NewReader(c)
	for range 3 {
		_, _ = io.WriteString(c, head)
		if a := read(t, r, "POST"); a.status != 100 {
			t.Fatalf("%+v", a)
		}
		_, _ = io.WriteString(c, "hello")
		if a := read(t, r, "POST"); a.body != "fine" {
			t.Fatalf("%+v", a)
		}
	}
	// A refusal without the body: the connection can't go on, as the body may come or not.
	refuses := listen(t, func(c net.Conn, _ int) {
		_, _ = http.ReadRequest(bufio.NewReader(c))
		_, _ = io.WriteString(c, "HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno")
		_, _ = io.Copy(io.Discard, c)
	})
	s, _ = front(t, "tcp", proxying(), app(refuses.addr))
	c = s.dial(t)
	_, _ = io.WriteString(c, head)
	r = bufio.NewReader(c)
	if a := read(t, r, "POST"); a.status != 403 || !a.close {
		t.Errorf("%+v", a)
	}
	nothingMore(t, r)
}

// TestProxyTrailers pass in chunks, both ways, and end with the chunks for a client of 1.0.
func TestProxyTrailers(t *testing.T) {
	b := listen(t, func(c net.Conn, _ int) {
		r := bufio.NewReader(c)
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, req.Body)
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n1\r\na\r\n0\r\nX-Sum: %s\r\nContent-Length: 9\r\n\r\n", req.Trailer.Get("X-Check"))
		}
	})
	s, _ := front(t, "tcp", proxying(), app(b.addr))
	const body = "Transfer-Encoding: chunked\r\nTrailer: X-Check\r\n\r\n1\r\nb\r\n0\r\nX-Check: 7\r\n\r\n"
	raw := undated(s.feed(t, "POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n"+body))
	if want := "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n1\r\na\r\n0\r\nX-Sum: 7\r\n\r\n"; raw != want {
		t.Errorf("got %q\nwant %q", raw, want)
	}
	raw = undated(s.feed(t, "GET / HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\n\r\n"))
	if want := "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\na"; raw != want {
		t.Errorf("got %q\nwant %q", raw, want)
	}
}

// TestProxyLarge sends large bodies both ways at once, by every framing.
func TestProxyLarge(t *testing.T) {
	body := make([]byte, 5<<20)
	rand.New(rand.NewSource(1)).Read(body)
	sum := sha256.Sum256(body)
	for _, framing := range []string{"length", "chunked", "close"} {
		for _, network := range []string{"tcp", "unix"} {
			t.Run(framing+" "+network, func(t *testing.T) {
				b := listen(t, func(c net.Conn, _ int) {
					r := bufio.NewReader(c)
					for {
						req, err := http.ReadRequest(r)
						if err != nil {
							return
						}
						got, err := io.ReadAll(req.Body)
						if err != nil || sha256.Sum256(got) != sum {
							t.Errorf("%d bytes came, %v", len(got), err)
						}
						resp := &http.Response{StatusCode: 200, ProtoMajor: 1, ProtoMinor: 1, Body: io.NopCloser(bytes.NewReader(got)), ContentLength: -1}
						switch framing {
						case "length":
							resp.ContentLength = int64(len(got))
						case "chunked":
							resp.TransferEncoding = []string{"chunked"}
						case "close":
							resp.Close = true
						}
						if resp.Write(c) != nil || framing == "close" {
							return
						}
					}
				})
				s, _ := front(t, network, proxying(), app(b.addr))
				client := &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return net.Dial(s.network, s.addr) }}}
				defer client.CloseIdleConnections()
				for range 2 {
					var in io.Reader = bytes.NewReader(body)
					if framing == "chunked" {
						in = struct{ io.Reader }{in}
					}
					resp, err := client.Post("http://h/", "a/b", in)
					if err != nil {
						t.Fatal(err)
					}
					h := sha256.New()
					n, err := io.Copy(h, resp.Body)
					if err != nil || [32]byte(h.Sum(nil)) != sum {
						t.Errorf("%d bytes came back, %v", n, err)
					}
					resp.Body.Close()
				}
				if n := b.accepted(); framing != "close" && n != 1 {
					t.Errorf("%d connections were made", n)
				}
			})
		}
	}
}

// TestProxyLog: a line for each request, with what the client got.
func TestProxyLog(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b := listen(t, func(c net.Conn, _ int) {
		br := bufio.NewReader(c)
		for {
			req, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			switch req.URL.Path {
			case "/length":
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n"+strings.Repeat("x", 300000))
			case "/chunks":
				_, _ = io.WriteString(c, "HTTP/1.1 201 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n")
			case "/head":
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
			case "/cut":
				_, _ = io.WriteString(c, "HTTP/1.1 206 OK\r\nContent-Length: 5\r\n\r\nabc")
				return
			case "/bad":
				_, _ = io.WriteString(c, "x")
				return
			}
		}
	})
	t.Run("serve", func(t *testing.T) {
		conf := proxying()
		conf.AccessLog = &config.AccessLog{Format: "combined", File: "-"}
		s := serve(t, "tcp", conf, service.Options{AccessLog: int(w.Fd())}, upstreams{confs: []config.Upstream{app(b.addr)}})
		for _, in := range []string{"GET /length", "POST /chunks", "HEAD /head", "GET /cut", "GET /bad"} {
			c := s.dial(t)
			_, _ = io.WriteString(c, in+" HTTP/1.1\r\nHost: h\r\nUser-Agent: me\r\nConnection: close\r\n\r\n")
			_, _ = io.Copy(io.Discard, c)
			c.Close()
		}
		c := s.dial(t)
		before := s.count().UpstreamOut
		_, _ = io.WriteString(c, "GET /hang HTTP/1.1\r\nHost: h\r\n\r\n")
		s.waitFor(t, "the request", func(k eventCounters) bool { return k.UpstreamOut > before })
		reset(c)
		s.waitFor(t, "the end", func(k eventCounters) bool { return k.Open == 0 })
		if k := s.count(); k.Requests != 6 {
			t.Errorf("counted %d requests", k.Requests)
		}
	})
	w.Close()
	raw, _ := io.ReadAll(r)
	lines := strings.Split(strings.TrimSpace(string(raw)), "\n")
	for i, want := range []string{
		`"GET /length HTTP/1.1" 200 300000 "-" "me"`, `"POST /chunks HTTP/1.1" 201 3 "-" "me"`, `"HEAD /head HTTP/1.1" 200 0 "-" "me"`,
		`"GET /cut HTTP/1.1" 206 3 "-" "me"`, `"GET /bad HTTP/1.1" 502 16 "-" "me"`, `"GET /hang HTTP/1.1" 499 0 "-" "-"`,
	} {
		if i >= len(lines) || !strings.HasSuffix(lines[i], want) {
			t.Fatalf("line %d is not %s:\n%s", i, want, raw)
		}
	}
}

// TestProxyDrain: a worker that drains without a heir ends a kept connection with its answer,
// and keeps none to servers.
func TestProxyDrain(t *testing.T) {
	b := listen(t, again(fine))
	s, _ := front(t, "tcp", proxying(), app(b.addr))
	c := s.dial(t)
	r := bufio.NewReader(c)
	_, _ = io.WriteString(c, get)
	if a := read(t, r, "GET"); a.close {
		t.Fatalf("%+v", a)
	}
	s.onLoop(s.Drain)
	_, _ = io.WriteString(c, get+get)
	if a := read(t, r, "GET"); a.status != 200 || a.close {
		t.Fatalf("%+v", a)
	}
	if a := read(t, r, "GET"); a.status != 200 || !a.close {
		t.Fatalf("%+v", a)
	}
	nothingMore(t, r)
	s.waitFor(t, "the end", func(k eventCounters) bool { return k.UpstreamOpen == 0 })
}

// TestProxyLongHead: a head that is longer than what is held of a body is a whole request, and
// the next one is answered.
func TestProxyLongHead(t *testing.T) {
	b := listen(t, again(fine))
	conf := proxying()
	conf.MaxHeader = 256 << 10
	s, _ := front(t, "tcp", conf, app(b.addr))
	c := s.dial(t)
	r := bufio.NewReader(c)
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nX: "+strings.Repeat("y", 100<<10)+"\r\n\r\n"+get)
	for range 2 {
		if a := read(t, r, "GET"); a.body != "fine" || a.close {
			t.Fatalf("%+v", a)
		}
	}
}

// TestProxyDrainPipelined: what was read behind a request's body is answered before a draining
// worker ends the connection.
func TestProxyDrainPipelined(t *testing.T) {
	b := listen(t, again(fine))
	conf := proxying()
	conf.MaxHeader = 256 << 10
	s, _ := front(t, "tcp", conf, app(b.addr))
	c := s.dial(t)
	s.onLoop(s.Drain)
	s.onLoop(func() { // which reads all of it at once
		_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"+strings.Repeat("y", 100000)+get)
	})
	r := bufio.NewReader(c)
	if a := read(t, r, "POST"); a.body != "fine" || a.close {
		t.Fatalf("%+v", a)
	}
	if a := read(t, r, "GET"); a.body != "fine" || !a.close {
		t.Fatalf("%+v", a)
	}
}

// TestProxyRoutes has what a server sees of routes' settings.
func TestProxyRoutes(t *testing.T) {
	b := listen(t, echoBack)
	conf := proxying()
	conf.Routes = append(conf.Routes,
		config.Route{Path: "/api/", Proxy: &config.Proxy{Upstream: "app", StripPrefix: true, Host: "api.example", ResponseTimeout: time.Minute}},
		config.Route{Path: "/own", Proxy: &config.Proxy{Upstream: "app", Host: "server", ResponseTimeout: time.Minute}},
		config.Route{Path: "/fixed", Respond: &config.Respond{Status: 200, Body: []byte("fixed")}},
	)
	s, _ := front(t, "tcp", conf, app(b.addr))
	for target, want := range map[string]string{
		"/x":                  "GET /x h",
		"/api/x?y":            "GET /x?y api.example",
		"/api%2Fx":            "GET /x api.example",
		"/own/x":              "GET /own/x " + b.addr,
		"/api/../fixed":       " ",
		"/own/%2e%2e/fixed":   " ",
		"/fixed/..%2fapi/x":   "GET /x api.example",
		"/x/%2e%2e/y%20z?a=b": "GET /y%20z?a=b h",
		"http://other/x":      "GET /x other",
	} {
		all := parseAll(t, s.feed(t, "GET "+target+" HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"))
		if got := all[0].header.Get("X-Line") + " " + all[0].header.Get("X-Host"); got != want {
			t.Errorf("%s: got %q, want %q", target, got, want)
		}
	}
}
