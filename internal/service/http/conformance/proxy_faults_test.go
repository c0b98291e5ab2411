package conformance

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const closeGet = "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"

// nobody is an address at which nobody listens.
func nobody(t testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// reset makes a connection's close a RST.
func reset(c net.Conn) {
	_ = c.(*net.TCPConn).SetLinger(0)
	c.Close()
}

// reasons lists those that were told of.
func (t *told) reasons() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []string
	for _, f := range t.all {
		all = append(all, f.Reason)
	}
	return strings.Join(all, "|")
}

// TestProxyConnectFails goes to another server as long as there is one, whatever the method
// and the body.
func TestProxyConnectFails(t *testing.T) {
	good := listen(t, echoBack)
	bad := nobody(t)
	for _, c := range []struct {
		name, in string
		servers  []string
		want     string
	}{
		{"one", closeGet, []string{bad}, "502 502 Bad Gateway\n"},
		{"all", closeGet, []string{bad, nobody(t), nobody(t), good.addr}, "502 502 Bad Gateway\n"}, // two retries
		{"first", closeGet, []string{bad, good.addr}, "200 "},
		{"two", closeGet, []string{bad, nobody(t), good.addr}, "200 "},
		{"post", "POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello", []string{bad, good.addr}, "200 hello"},
		{"large post", "POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 300000\r\n\r\n" + strings.Repeat("x", 300000), []string{bad, good.addr}, "200 " + strings.Repeat("x", 300000)},
		{"chunks", "POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", []string{bad, good.addr}, "200 hello"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, failures := front(t, "tcp", proxying(), app(c.servers...))
			conn := s.dial(t)
			go io.WriteString(conn, c.in)
			raw, err := io.ReadAll(conn)
			if got, whole := answers(string(raw), "GET"); err != nil || got != c.want || !whole {
				t.Fatalf("got %.200q, %v, want %.200q", got, err, c.want)
			}
			if got := failures.reasons(); !strings.HasPrefix(got, "connection refused") {
				t.Errorf("told of %q", got)
			}
		})
	}
}

// TestProxyConnectTimesOut answers 504 when the last attempt took too long.
func TestProxyConnectTimesOut(t *testing.T) {
	good := listen(t, echoBack)
	for _, c := range []struct {
		servers []string
		want    string
	}{
		{[]string{fullQueue(t)}, "504 504 Gateway Timeout\n"},
		{[]string{fullQueue(t), good.addr}, "200 "},
		{[]string{fullQueue(t), nobody(t)}, "502 502 Bad Gateway\n"},
	} {
		u := app(c.servers...)
		u.ConnectTimeout = 50 * time.Millisecond
		s, failures := front(t, "tcp", proxying(), u)
		if got, _ := answers(s.feed(t, closeGet), "GET"); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
		if got := failures.reasons(); !strings.HasPrefix(got, "connect timed out") {
			t.Errorf("told of %q", got)
		}
	}
}

// TestProxyNotAnswered repeats a request that nobody answered only if that is safe and
// all of it is there.
func TestProxyNotAnswered(t *testing.T) {
	const body = "Content-Length: 5\r\nConnection: close\r\n\r\nhello"
	for _, how := range []struct {
		name string
		end  func(net.Conn)
		told string
	}{
		{"close", func(c net.Conn) { c.Close() }, "closed early"},
		{"reset", reset, "connection reset"},
	} {
		for _, c := range []struct{ in, want string }{
			{closeGet, "200 "},
			{"HEAD / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", "200 "},
			{"PUT / HTTP/1.1\r\nHost: h\r\n" + body, "200 hello"},
			{"DELETE / HTTP/1.1\r\nHost: h\r\n" + body, "200 hello"},
			{"POST / HTTP/1.1\r\nHost: h\r\n" + body, "502 502 Bad Gateway\n"},
			{"PATCH / HTTP/1.1\r\nHost: h\r\n" + body, "502 502 Bad Gateway\n"},
			{"BREW / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", "502 502 Bad Gateway\n"},
			{"PUT / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", "502 502 Bad Gateway\n"},
		} {
			t.Run(how.name+" "+c.in[:strings.IndexByte(c.in, ' ')], func(t *testing.T) {
				bad := listen(t, func(conn net.Conn, _ int) {
					if req, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
						_, _ = io.Copy(io.Discard, req.Body)
					}
					how.end(conn)
				})
				good := listen(t, echoBack)
				s, failures := front(t, "tcp", proxying(), app(bad.addr, good.addr))
				if got, _ := answers(s.feed(t, c.in), c.in[:strings.IndexByte(c.in, ' ')]); got != c.want {
					t.Errorf("got %q, want %q", got, c.want)
				}
				if got := failures.reasons(); got != how.told {
					t.Errorf("told of %q", got)
				}
			})
		}
	}
}

// TestProxyStale: a connection that a server closed while it was idle is no failure of the
// server, and no client notices: not even one whose request must not be sent twice.
func TestProxyStale(t *testing.T) {
	for _, method := range []string{"GET", "POST"} {
		t.Run(method, func(t *testing.T) {
			next, closed := make(chan bool), make(chan bool)
			b := listen(t, func(c net.Conn, _ int) {
				script(fine)(c, 0)
				<-next
				c.Close()
				closed <- true
			})
			s, failures := front(t, "tcp", proxying(), app(b.addr))
			conn := s.dial(t)
			r := bufio.NewReader(conn)
			for i := range 5 {
				_, _ = io.WriteString(conn, method+" / HTTP/1.1\r\nHost: h\r\n\r\n")
				if a := read(t, r, method); a.status != 200 {
					t.Fatalf("request %d: %+v", i, a)
				}
				s.onLoop(func() { // which hears of the close and of the next request at once
					next <- true
					<-closed
				})
			}
			if got := failures.reasons(); got != "" {
				t.Errorf("told of %q", got)
			}
		})
	}
}

// TestProxyStaleRace has a server close a kept connection at the moment that the next
// request comes.
func TestProxyStaleRace(t *testing.T) {
	b := listen(t, func(c net.Conn, _ int) {
		r := bufio.NewReader(c)
		if _, err := http.ReadRequest(r); err != nil {
			return
		}
		_, _ = io.WriteString(c, fine)
		_, _ = r.Peek(1) // the next request has come, and isn't read
	})
	s, failures := front(t, "tcp", proxying(), app(b.addr))
	conn := s.dial(t)
	r := bufio.NewReader(conn)
	for i := range 5 {
		_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
		if a := read(t, r, "GET"); a.status != 200 {
			t.Fatalf("request %d: %+v", i, a)
		}
	}
	_, _ = io.WriteString(conn, "POST / HTTP/1.1\r\nHost: h\r\n\r\n")
	if a := read(t, r, "GET"); a.status != 502 {
		t.Fatalf("%+v", a)
	}
	if got := failures.reasons(); got != "" {
		t.Errorf("told of %q", got)
	}
}

// TestProxyTimeouts: 504 if there is no answer in time, and a visible break if there is no
// more of one.
func TestProxyTimeouts(t *testing.T) {
	for _, c := range []struct {
		name, raw, want string
		total           bool
	}{
		{"nothing", "", "504 504 Gateway Timeout\n", false},
		{"half a head", "HTTP/1.1 200 OK\r\nConte", "504 504 Gateway Timeout\n", false},
		{"half a body", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", "broken", false},
		{"half a chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf", "broken", false},
		{"until close", "HTTP/1.1 200 OK\r\n\r\nhalf", "broken", false},
		{"nothing", "", "504 504 Gateway Timeout\n", true},
		{"half a body", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", "broken", true},
	} {
		t.Run(fmt.Sprint(c.name, c.total), func(t *testing.T) {
			done := make(chan bool)
			b := listen(t, func(conn net.Conn, n int) {
				script(c.raw)(conn, n)
				<-done
			})
			t.Cleanup(func() { close(done) })
			conf := proxying()
			if c.total {
				conf.Routes[0].Proxy.TotalTimeout = 50 * time.Millisecond
			} else {
				conf.Routes[0].Proxy.ResponseTimeout = 50 * time.Millisecond
			}
			s, failures := front(t, "tcp", conf, app(b.addr))
			conn := s.dial(t)
			_, _ = io.WriteString(conn, closeGet)
			raw, _ := io.ReadAll(conn)
			got, whole := answers(string(raw), "GET")
			if c.want == "broken" && whole || c.want != "broken" && got != c.want {
				t.Errorf("got %q, whole %v, want %q", got, whole, c.want)
			}
			if got := failures.reasons(); got != "no answer in time" && !(c.total && c.want == "broken") {
				t.Errorf("told of %q", got)
			}
		})
	}
}

// TestProxySlowBody: a client that stops in the middle of a body is told 408.
func TestProxySlowBody(t *testing.T) {
	b := listen(t, echoBack)
	conf := proxying()
	conf.BodyTimeout = 50 * time.Millisecond
	s, failures := front(t, "tcp", conf, app(b.addr))
	for _, in := range []string{
		"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nhalf",
		"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf",
	} {
		if got, _ := answers(s.feed(t, in), "POST"); got != "408 408 Request Timeout\n" {
			t.Errorf("got %q", got)
		}
	}
	if got := failures.reasons(); got != "" {
		t.Errorf("told of %q", got)
	}
}

// TestProxyBadBody: a chunked body that is malformed or too large is refused, and the server
// doesn't get a whole one.
func TestProxyBadBody(t *testing.T) {
	var whole atomic.Int32
	b := listen(t, func(c net.Conn, _ int) {
		if req, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			if _, err := io.Copy(io.Discard, req.Body); err == nil {
				whole.Add(1)
			}
		}
	})
	conf := proxying()
	conf.MaxBody = 100
	s, _ := front(t, "tcp", conf, app(b.addr))
	const head = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
	for in, want := range map[string]string{
		head + "1\r\na\r\n0x1\r\nb\r\n0\r\n\r\n":                                              "400 400 Bad Request\n",
		head + "1\r\nab\r\n0\r\n\r\n":                                                         "400 400 Bad Request\n",
		head + "1\na\n0\n\n":                                                                  "400 400 Bad Request\n",
		head + "1\r\na\r\n64\r\n" + strings.Repeat("b", 100):                                  "413 413 Content Too Large\n",
		"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 101\r\n\r\n":                           "413 413 Content Too Large\n",
		head + "1\r\na\r\n0\r\nBad : field\r\n\r\n":                                           "400 400 Bad Request\n",
		head + "1\r\na\r\n0\r\n" + strings.Repeat("A: b\r\n", 5000):                           "431 431 Request Header Fields Too Large\n",
		"POST / HTTP/1.1\r\nHost: h\r\nConnection: a" + strings.Repeat(",a", 50) + "\r\n\r\n": "400 400 Bad Request\n",
	} {
		if got, _ := answers(s.feed(t, in), "POST"); got != want {
			t.Errorf("%.150q: got %q, want %q", in, got, want)
		}
	}
	b.Close()
	s.waitFor(t, "the end of all connections", func(k eventCounters) bool { return k.UpstreamOpen == 0 })
	if n := whole.Load(); n != 0 {
		t.Errorf("the server has got %d whole bodies", n)
	}
}

// TestProxyClientGone: what nobody waits for is not waited for.
func TestProxyClientGone(t *testing.T) {
	for name, in := range map[string]string{
		"waiting":         "GET / HTTP/1.1\r\nHost: h\r\n\r\n",
		"half a body":     "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nhalf",
		"half of chunks":  "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf",
		"before any body": "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n",
	} {
		for _, how := range []string{"close", "reset"} {
			t.Run(name+" "+how, func(t *testing.T) {
				gone, came := make(chan error, 1), make(chan bool, 1)
				b := listen(t, func(c net.Conn, _ int) {
					r := bufio.NewReader(c)
					_, err := http.ReadRequest(r)
					came <- true
					if err == nil {
						_, err = io.Copy(io.Discard, r)
					}
					gone <- err
				})
				s, failures := front(t, "tcp", proxying(), app(b.addr))
				c := s.dial(t)
				_, _ = io.WriteString(c, in)
				<-came
				if how == "reset" {
					reset(c)
				} else if c.Close(); name == "waiting" {
					// A client may have shut its side and wait: that it hasn't shows when it
					// is sent something.
					return
				}
				<-gone
				s.waitFor(t, "the end", func(k eventCounters) bool { return k.Open == 0 && k.UpstreamOpen == 0 })
				if got := failures.reasons(); got != "" {
					t.Errorf("told of %q", got)
				}
			})
		}
	}
}

// TestProxyHalfClose: a client that has shut its side gets its answer.
func TestProxyHalfClose(t *testing.T) {
	b := listen(t, echoBack)
	s, _ := front(t, "tcp", proxying(), app(b.addr))
	raw := s.feedAndShut(t, strings.Repeat("GET / HTTP/1.1\r\nHost: h\r\n\r\n", 3)+"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello")
	if got, whole := answers(raw, "GET"); got != "200 |200 |200 |200 hello" || !whole {
		t.Errorf("got %q", got)
	}
}

// TestProxyEarlyAnswer: an answer that comes before the request's body has gone is passed on,
// and is the last.
func TestProxyEarlyAnswer(t *testing.T) {
	const refusal = "HTTP/1.1 413 No\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno"
	for _, how := range []string{"reads on", "closes", "resets", "waits"} {
		for _, framing := range []string{"length", "chunked"} {
			t.Run(how+" "+framing, func(t *testing.T) {
				done := make(chan bool)
				b := listen(t, func(c net.Conn, _ int) {
					r := bufio.NewReader(c)
					if _, err := http.ReadRequest(r); err != nil {
						return
					}
					if how == "waits" {
						time.Sleep(50 * time.Millisecond) // there is more than sockets hold by now
					}
					_, _ = io.WriteString(c, refusal)
					switch how {
					case "reads on":
						_, _ = io.Copy(io.Discard, r)
					case "resets":
						_, _ = r.Discard(100 << 10) // then there are more
					case "waits":
						<-done
					}
				})
				s, _ := front(t, "tcp", proxying(), app(b.addr))
				c := s.dial(t)
				go func() {
					if framing == "length" {
						fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 8000000\r\n\r\n")
						_, _ = c.Write(make([]byte, 8000000))
					} else {
						fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
						for range 100 {
							fmt.Fprintf(c, "%x\r\n%s\r\n", 80000, bytes.Repeat([]byte("x"), 80000))
						}
					}
					_ = c.(*net.TCPConn).CloseWrite()
				}()
				raw, err := io.ReadAll(c)
				all := parseAll(t, string(raw))
				if err != nil || len(all) != 1 || all[0].status != 413 || all[0].body != "no" || !all[0].close {
					t.Errorf("got %q, %v", raw, err)
				}
				s.waitFor(t, "the end", func(k eventCounters) bool { return k.UpstreamOpen == 0 })
				close(done)
			})
		}
	}
}

// TestProxyBothWays: a client that reads nothing before it has sent all, and a server that
// answers meanwhile, don't wait for each other.
func TestProxyBothWays(t *testing.T) {
	const size = 8 << 20
	for _, framing := range []string{"length", "chunked"} {
		t.Run(framing, func(t *testing.T) {
			b := listen(t, func(c net.Conn, _ int) {
				req, err := http.ReadRequest(bufio.NewReader(c))
				if err != nil {
					return
				}
				all := make(chan int64)
				go func() {
					n, _ := io.Copy(io.Discard, req.Body)
					all <- n
				}()
				fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n", size)
				_, _ = c.Write(make([]byte, size))
				fmt.Fprintf(c, "\r\n0\r\nGot: %d\r\n\r\n", <-all)
			})
			s, _ := front(t, "tcp", proxying(), app(b.addr))
			c := s.dial(t)
			req, _ := http.NewRequest("POST", "http://h/", io.LimitReader(zeros{}, size))
			if framing == "length" {
				req.ContentLength = size
			}
			if err := req.Write(c); err != nil {
				t.Fatal(err)
			}
			resp, err := http.ReadResponse(bufio.NewReader(c), req)
			if err != nil {
				t.Fatal(err)
			}
			n, err := io.Copy(io.Discard, resp.Body)
			if n != size || err != nil || resp.Trailer.Get("Got") != fmt.Sprint(size) {
				t.Errorf("%d bytes, %v, %v", n, err, resp.Trailer)
			}
		})
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestProxyInterimFlood: a server that says 103 for ever is held back like any other.
func TestProxyInterimFlood(t *testing.T) {
	var sent atomic.Int64
	b := listen(t, func(c net.Conn, _ int) {
		if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil {
			return
		}
		piece := []byte(strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", 1000))
		for {
			n, err := c.Write(piece)
			if sent.Add(int64(n)); err != nil {
				return
			}
		}
	})
	s, _ := front(t, "tcp", proxying(), app(b.addr))
	c := s.dial(t)
	_ = c.(*net.TCPConn).SetReadBuffer(64 << 10)
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	stalls(t, &sent)
	c.Close()
	s.waitFor(t, "the end", func(k eventCounters) bool { return k.UpstreamOpen == 0 })
}

// TestProxyFlood: a server that floods a client that doesn't read is held back, and so is a
// client that floods a server.
func TestProxyFlood(t *testing.T) {
	const chunk = 64 << 10
	for _, framing := range []string{"length", "chunked", "close"} {
		t.Run("server, "+framing, func(t *testing.T) {
			var sent atomic.Int64
			b := listen(t, func(c net.Conn, _ int) {
				if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil {
					return
				}
				head, before, after := "", "", ""
				switch framing {
				case "length":
					head = "Content-Length: 1000000000000\r\n"
				case "chunked":
					head, before, after = "Transfer-Encoding: chunked\r\n", fmt.Sprintf("%x\r\n", chunk), "\r\n"
				}
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n"+head+"\r\n")
				piece := []byte(before + strings.Repeat("x", chunk) + after)
				for {
					n, err := c.Write(piece)
					if sent.Add(int64(n)); err != nil {
						return
					}
				}
			})
			s, _ := front(t, "tcp", proxying(), app(b.addr))
			c := s.dial(t)
			_ = c.(*net.TCPConn).SetReadBuffer(64 << 10)
			_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
			stalls(t, &sent)
			c.Close()
			s.waitFor(t, "the end", func(k eventCounters) bool { return k.UpstreamOpen == 0 })
		})
	}
	for _, framing := range []string{"length", "chunked"} {
		t.Run("client, "+framing, func(t *testing.T) {
			done := make(chan bool)
			b := listen(t, func(c net.Conn, _ int) { <-done })
			t.Cleanup(func() { close(done) })
			conf := proxying()
			conf.MaxBody = 1 << 40
			s, _ := front(t, "tcp", conf, app(b.addr))
			c := s.dial(t)
			var sent atomic.Int64
			ended := make(chan bool)
			go func() {
				defer close(ended)
				head, before, after := "Content-Length: 1000000000\r\n", "", ""
				if framing == "chunked" {
					head, before, after = "Transfer-Encoding: chunked\r\n", fmt.Sprintf("%x\r\n", chunk), "\r\n"
				}
				_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: h\r\n"+head+"\r\n")
				piece := []byte(before + strings.Repeat("x", chunk) + after)
				for {
					n, err := c.Write(piece)
					if sent.Add(int64(n)); err != nil {
						return
					}
				}
			}()
			stalls(t, &sent)
			c.Close()
			<-ended
		})
	}
}

// stalls waits until a counter has not moved for a while, and wants it below what sockets'
// buffers and ours may hold.
func stalls(t testing.TB, n *atomic.Int64) {
	t.Helper()
	before := int64(-1)
	for still := 0; still < 10; {
		time.Sleep(20 * time.Millisecond)
		now := n.Load()
		if now == before && now > 0 {
			still++
		} else {
			still = 0
		}
		if before = now; now > 64<<20 {
			t.Fatalf("%d bytes were taken that nobody reads", now)
		}
	}
}
