package services

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"reuseportd/internal/control"
	"reuseportd/test/harness"
)

// webFault is a server that is ill, and what a client is told.
type webFault struct {
	name   string
	server func(t *testing.T) string // its address
	keys   string                    // of the upstream
	route  string                    // keys of the route's proxy
	send   string                    // "" is a GET
	status int                       // 0 if the client isn't answered, but sees its connection end
	cut    bool                      // the answer's end is missing, and the client can see that
	fails  bool                      // it is a failure of the server: counted and logged
}

func ill(treat func(*net.TCPConn)) func(*testing.T) string {
	return func(t *testing.T) string { return StartIll(t, treat).Address() }
}

const okay = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"

func webFaults() []webFault {
	const (
		head    = "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"
		chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n400\r\n"
		plain   = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
	)
	part := strings.Repeat("x", 1024)
	brief := "response_timeout: 300ms"
	nobody := func(t *testing.T) string { return Nobody(t) }
	hole := func(t *testing.T) string { return BlackHole(t) }
	name := func(*testing.T) string { return "nosuch.invalid:80" }
	post := "POST /%s/ HTTP/1.1\r\nHost: test\r\nContent-Length: 1\r\n\r\nx"
	return []webFault{
		{name: "refused", server: nobody, status: 502, fails: true},
		{name: "black-hole", server: hole, keys: "connect_timeout: 300ms", status: 504, fails: true},
		{name: "unknown-name", server: name, status: 503},
		{name: "silent", server: ill(then("")), route: brief, status: 504, fails: true},
		{name: "silent-in-head", server: ill(after(then("HTTP/1.1 200 OK\r\nA: b\r\n"))), route: brief, status: 504, fails: true},
		{name: "silent-in-body", server: ill(after(then(head + part))), route: brief, status: 200, cut: true, fails: true},
		{name: "silent-in-chunk", server: ill(after(then(chunked + part))), route: brief, status: 200, cut: true, fails: true},
		{name: "total-timeout", server: ill(after(floods(plain, part))), route: "total_timeout: 300ms", status: 200, cut: true},
		{name: "closes", server: ill(after(says(""))), status: 502, fails: true},
		{name: "closes-before-request", server: ill(says("")), status: 502, fails: true},
		{name: "closes-on-post", server: ill(after(says(""))), send: post, status: 502, fails: true},
		{name: "resets", server: ill(after(resets(""))), status: 502, fails: true},
		{name: "closes-in-head", server: ill(after(says("HTTP/1.1 200 OK\r\nA:"))), status: 502, fails: true},
		{name: "resets-in-head", server: ill(after(resets("HTTP/1.1 200 OK\r\nA:"))), status: 502, fails: true},
		{name: "closes-in-body", server: ill(after(says(head + part))), status: 200, cut: true, fails: true},
		{name: "resets-in-body", server: ill(after(resets(head + part))), status: 200, cut: true, fails: true},
		{name: "closes-in-chunk", server: ill(after(says(chunked + part[:1000]))), status: 200, cut: true, fails: true},
		{name: "resets-in-chunk", server: ill(after(resets(chunked + part[:1000]))), status: 200, cut: true, fails: true},
		{name: "closes-between-chunks", server: ill(after(says(chunked + part + "\r\n"))), status: 200, cut: true, fails: true},
		{name: "resets-without-length", server: ill(after(resets(plain + part))), status: 200, cut: true, fails: true},
		{name: "bad-chunk", server: ill(after(says(chunked + part + "\r\nno number\r\n"))), status: 200, cut: true, fails: true},
		{name: "garbage", server: ill(after(says("\x00\xff\xfe no answer\r\n\r\n"))), status: 502, fails: true},
		{name: "another-protocol", server: ill(says("SSH-2.0-OpenSSH_9.2\r\n")), status: 502, fails: true},
		{name: "two-lengths", server: ill(after(says("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello"))), status: 502, fails: true},
		{name: "endless-head", server: ill(after(floods("HTTP/1.1 200 OK\r\nA: ", "a"))), status: 502, fails: true},
		{name: "endless-fields", server: ill(after(floods("HTTP/1.1 200 OK\r\n", "A: b\r\n"))), status: 502, fails: true},
		{name: "endless-continue", server: ill(after(floods("", "HTTP/1.1 103 Early Hints\r\n\r\n"))), route: "total_timeout: 300ms", status: -1},
	}
}

// Whatever a server does, its client gets the answer that docs/HTTP.md has for it, and
// nothing of it stays.
func TestWebFaults(t *testing.T) {
	faults := webFaults()
	servers := make(map[string]string)
	ups, routes := "upstreams:", []string(nil)
	for _, f := range faults {
		address := f.server(t)
		servers[f.name] = address
		keys := f.keys
		if keys == "" {
			keys = "connect_timeout: 5s"
		}
		ups += fmt.Sprintf("\n  - {name: %s, servers: [{address: %q}], max_failures: 0, %s}", f.name, address, keys)
		routes = append(routes, fmt.Sprintf("{path: /%s/, proxy: {upstream: %[1]s, %s}}", f.name, f.route))
	}
	c := harness.Config{Workers: 2, Top: []string{"watch: false", "start_timeout: 40s", ups}}
	c = c.WithListeners(harness.Listener{Name: "front", Address: harness.Local(t), Service: "http: {routes: [" + strings.Join(routes, ", ") + "]}"})
	s := harness.Start(t, c)
	before := memory(s)
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			send := f.send
			if send == "" {
				send = "GET /%s/ HTTP/1.1\r\nHost: test\r\n\r\n"
			}
			for range 3 {
				got := exchange(t, c.Address("front"), fmt.Sprintf(send, f.name))
				switch {
				case f.status >= 0 && got.status != f.status:
					t.Errorf("answer %v, want status %d", got, f.status)
				case f.cut != (got.err != nil) && f.status >= 0:
					t.Errorf("answer %v, want it cut: %t", got, f.cut)
				}
			}
			settled(t, s, f.name)
			up := upstreamOf(t, s.Status(), f.name)
			var failures uint64
			for _, server := range up.Servers {
				for _, n := range server.Failures {
					failures += n
				}
			}
			if f.fails != (failures > 0) {
				t.Errorf("counted as failures: %d, want some: %t", failures, f.fails)
			}
			if f.name == "unknown-name" && (up.TurnedAway != 3 || up.DNSFailures == 0) {
				t.Errorf("turned away %d, DNS failures %d; want 3 and some", up.TurnedAway, up.DNSFailures)
			}
			if f.fails || f.status == 503 {
				wantLogged(t, s, "front", f.name, map[bool]string{true: servers[f.name]}[f.fails])
			}
		})
	}
	wantSlim(t, s, before)
}

// answer is how an exchange ended.
type answer struct {
	status int
	bytes  int
	err    error // what was wrong with the body
}

func (a answer) String() string {
	return fmt.Sprintf("%d with %d bytes, error %v", a.status, a.bytes, a.err)
}

// exchange is one request on a connection of its own. A connection that ends without
// an answer is status 0.
func exchange(t *testing.T, address, request string) answer {
	t.Helper()
	c := dial(t, address)
	defer c.Close()
	_, err := io.WriteString(c, request)
	must(t, err)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	for err == nil && resp.StatusCode < 200 {
		resp, err = http.ReadResponse(bufio.NewReader(c), nil)
	}
	if err != nil {
		if ne := net.Error(nil); errors.As(err, &ne) && ne.Timeout() {
			t.Fatal("no answer, and no end")
		}
		return answer{err: err}
	}
	defer resp.Body.Close()
	n, err := io.Copy(io.Discard, resp.Body)
	if ne := net.Error(nil); errors.As(err, &ne) && ne.Timeout() {
		t.Fatalf("status %d, and a body without an end", resp.StatusCode)
	}
	return answer{resp.StatusCode, int(n), err}
}

// dial connects; whatever is done with the connection is bounded.
func dial(t *testing.T, address string) *net.TCPConn {
	t.Helper()
	c, err := tryDial(t, address)
	must(t, err)
	return c
}

func tryDial(t *testing.T, address string) (*net.TCPConn, error) {
	t.Helper()
	c, err := net.DialTimeout("tcp", address, harness.Within)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn), c.SetDeadline(time.Now().Add(harness.Within))
}

// settled waits until nobody is connected, and no server of upstreams is in use.
func settled(t *testing.T, s *harness.Server, upstreams ...string) {
	t.Helper()
	s.WaitStatus("all connections to end", func(st *control.Status) bool {
		for _, g := range st.Groups {
			for _, w := range g.Workers {
				if w.Connections > 0 {
					return false
				}
			}
		}
		for _, name := range upstreams {
			for _, server := range upstreamOf(t, st, name).Servers {
				if server.InUse > 0 {
					return false
				}
			}
		}
		return true
	})
}

func upstreamOf(t *testing.T, st *control.Status, name string) control.Upstream {
	t.Helper()
	for _, u := range st.Upstreams {
		if u.Name == name {
			return u
		}
	}
	t.Fatalf("the status has no upstream %s: %+v", name, st.Upstreams)
	return control.Upstream{}
}

// wantLogged wants a line of the log to have all the words, "" aside.
func wantLogged(t *testing.T, s *harness.Server, words ...string) {
	t.Helper()
	s.Wait(fmt.Sprintf("the log to say %q", words), func() bool {
		for line := range strings.Lines(s.Log()) {
			all := strings.Contains(line, `"reason"`)
			for _, w := range words {
				all = all && (w == "" || strings.Contains(line, `"`+w+`"`))
			}
			if all {
				return true
			}
		}
		return false
	})
}

// memory is what the workers have of it, in KiB.
func memory(s *harness.Server) (kib int) {
	for _, pid := range s.Workers() {
		var n int
		_, _ = fmt.Sscan(harness.ProcStatus(pid, "RssAnon"), &n) // 0 if it has ended
		kib += n
	}
	return kib
}

// wantSlim wants the workers not to have grown by what they were sent. What was in a
// pipe, 1 MiB at most for each direction, is in memory after a handover.
func wantSlim(t *testing.T, s *harness.Server, before int) {
	t.Helper()
	much := 48 << 10
	if harness.Raced {
		much *= 4 // it keeps a record of all memory
	}
	if now := memory(s); now > before+much {
		t.Errorf("the workers have %d KiB of memory, before the faults they had %d", now, before)
	}
}

// A server that always floods is served as fast as its client reads, which doesn't
// read; a server that doesn't read gets no more than its client has sent.
func TestWebFloods(t *testing.T) {
	down := StartIll(t, after(floods("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", "x")))
	up := StartIll(t, then(""))
	ups := fmt.Sprintf("upstreams: [{name: down, servers: [{address: %q}]}, {name: up, servers: [{address: %q}]}]", down.Address(), up.Address())
	c := harness.Config{Workers: 2, Top: []string{"watch: false", ups}}.WithListeners(harness.Listener{
		Name: "front", Address: harness.Local(t),
		Service: "http: {max_body: 8GiB, routes: [{path: /down, proxy: {upstream: down}}, {path: /up, proxy: {upstream: up}}]}",
	})
	s := harness.Start(t, c)
	before := memory(s)
	const each = 10
	var conns, puts []*net.TCPConn
	for range each {
		get, put := dial(t, c.Address("front")), dial(t, c.Address("front"))
		_, err := io.WriteString(get, "GET /down HTTP/1.1\r\nHost: test\r\n\r\n")
		must(t, err)
		_, err = io.WriteString(put, "PUT /up HTTP/1.1\r\nHost: test\r\nContent-Length: 8000000000\r\n\r\n")
		must(t, err)
		conns, puts = append(conns, get, put), append(puts, put)
	}
	fill(t, puts)
	harness.Wait(t, "all requests to be passed on", func() bool { return down.Open.Load() == each && up.Open.Load() == each })
	waitStill(s)
	wantSlim(t, s, before)
	for i, conn := range conns {
		if i%4 > 0 { // the rest closes, with bytes unread
			must(t, conn.SetLinger(0))
		}
		conn.Close()
	}
	harness.Wait(t, "the servers' connections to end", func() bool { return down.Open.Load() == 0 && up.Open.Load() == 0 })
	settled(t, s, "down", "up")
}

// fill writes to all connections until nothing more goes for a while.
func fill(t *testing.T, conns []*net.TCPConn) {
	t.Helper()
	full := make(chan error, len(conns))
	for _, c := range conns {
		go func() {
			block := make([]byte, 64<<10)
			for {
				err := c.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
				if err == nil {
					_, err = c.Write(block)
				}
				if ne := net.Error(nil); errors.As(err, &ne) && ne.Timeout() {
					full <- nil
					return
				}
				if err != nil {
					full <- err
					return
				}
			}
		}()
	}
	for range conns {
		must(t, <-full)
	}
}

// waitStill waits until no bytes have moved for a while: nobody tells that they
// are not going to.
func waitStill(s *harness.Server) {
	var before uint64
	same := 0
	s.WaitStatus("the bytes to stop", func(st *control.Status) bool {
		if now := st.Totals.BytesIn + st.Totals.BytesOut; now != before {
			before, same = now, 0
		}
		same++
		return same == 10
	})
}

// What was begun again elsewhere, and what must not be.
func TestWebRetries(t *testing.T) {
	var tried atomic.Int64
	counted := func(treat func(*net.TCPConn)) func(*net.TCPConn) {
		return func(c *net.TCPConn) { tried.Add(1); treat(c) }
	}
	// Its answers say that it closes, or a POST could be put on a connection that is about to end.
	well := StartIll(t, after(says(strings.Replace(okay, "\r\n", "\r\nConnection: close\r\n", 1))))
	for _, tt := range []struct {
		name   string
		bad    string
		method string
		status int // of the first request; those after it meet the other server
	}{
		{"GET refused", Nobody(t), "GET", 200},
		{"POST refused", Nobody(t), "POST", 200},
		{"GET not connected", BlackHole(t), "GET", 200},
		{"GET not answered", StartIll(t, after(counted(says("")))).Address(), "GET", 200},
		{"POST not answered", StartIll(t, after(counted(says("")))).Address(), "POST", 502},
	} {
		t.Run(tt.name, func(t *testing.T) {
			// The bad one is the first, and the other a backup.
			text := fmt.Sprintf("upstreams: [{name: behind, connect_timeout: 500ms, max_failures: 1, cool_down: 1h, servers: [{address: %q}, {address: %q, backup: true}]}]", tt.bad, well.Address())
			c := harness.Config{Workers: 1, Top: []string{"watch: false", text}}
			c = c.WithListeners(harness.Listener{Name: "front", Address: harness.Local(t), Service: proxy})
			s := harness.Start(t, c)
			for i := range 3 {
				want := 200
				if i == 0 {
					want = tt.status
				}
				got := exchange(t, c.Address("front"), tt.method+" / HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n")
				if got.status != want || got.err != nil {
					t.Errorf("request %d: answer %v, want %d", i, got, want)
				}
			}
			settled(t, s, "behind")
			u := upstreamOf(t, s.Status(), "behind")
			if retried := tt.status == 200; retried != (u.Retries == 1) || u.Servers[0].State != "ejected" || u.Servers[0].Ejections != 1 {
				t.Errorf("retries %d, first server %s, ejected %d times; want %t, ejected, 1", u.Retries, u.Servers[0].State, u.Servers[0].Ejections, retried)
			}
		})
	}
	if tried.Load() != 2 {
		t.Errorf("the servers that don't answer were tried %d times, want 2", tried.Load())
	}
}

// With all servers ejected the answer is 503, at once and not to be waited for.
func TestWebAllDown(t *testing.T) {
	hole := BlackHole(t)
	text := fmt.Sprintf("upstreams: [{name: behind, connect_timeout: 500ms, max_failures: 1, cool_down: 1h, servers: [{address: %q}]}]", hole)
	c := harness.Config{Workers: 2, Top: []string{"watch: false", text}}
	c = c.WithListeners(harness.Listener{Name: "front", Address: harness.Local(t), Service: proxy})
	s := harness.Start(t, c)
	if got := exchange(t, c.Address("front"), "GET / HTTP/1.1\r\nHost: test\r\n\r\n"); got.status != 504 {
		t.Errorf("answer %v, want 504", got)
	}
	for range 10 {
		if got := exchange(t, c.Address("front"), "GET / HTTP/1.1\r\nHost: test\r\n\r\n"); got.status != 503 || got.err != nil {
			t.Errorf("answer %v, want 503", got)
		}
	}
	u := upstreamOf(t, s.Status(), "behind")
	if u.TurnedAway != 10 || u.Servers[0].Sessions != 1 {
		t.Errorf("turned away %d, tried %d; want 10 and 1", u.TurnedAway, u.Servers[0].Sessions)
	}
}

// await waits for something that a server tells.
func await[T any](t *testing.T, told <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-told:
	case <-time.After(harness.Within):
		t.Fatal("the server says nothing")
	}
	return v
}

// A client that leaves or breaks off takes its server's connection with it, and what
// it has not ended reaches no server as if it were whole.
func TestWebClientsFault(t *testing.T) {
	begun, bodies := make(chan bool, 100), make(chan error, 100)
	b := StartIll(t, func(c *net.TCPConn) {
		r := bufio.NewReader(c)
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			if req.Method == http.MethodPost {
				_, err := io.ReadFull(req.Body, make([]byte, len("hello")))
				if begun <- true; err == nil {
					_, err = io.Copy(io.Discard, req.Body)
				}
				bodies <- err
				if err != nil {
					return
				}
				says(okay)(c)
				continue
			}
			floods("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", "x")(c)
			return
		}
	})
	c := inFrontOf(t, b.Address(), proxy)
	s := harness.Start(t, c)
	const chunked = "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
	const length = "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\nhello"
	for _, tt := range []struct {
		name, send string
		leave      func(c *net.TCPConn)
		body       bool // the server gets the beginning of one
	}{
		{"ends in chunks", chunked, func(c *net.TCPConn) { c.Close() }, true},
		{"resets in chunks", chunked, func(c *net.TCPConn) { _ = c.SetLinger(0); c.Close() }, true},
		{"half-closes in chunks", chunked, func(c *net.TCPConn) { _ = c.CloseWrite() }, true},
		{"ends in a length", length, func(c *net.TCPConn) { c.Close() }, true},
		{"half-closes in a length", length, func(c *net.TCPConn) { _ = c.CloseWrite() }, true},
		{"garbage in chunks", chunked, func(c *net.TCPConn) { _, _ = c.Write([]byte("no number\r\n")) }, true},
		{"garbage", "\x00\xff\r\n\r\n", func(*net.TCPConn) {}, false},
		{"ends in an answer", "GET / HTTP/1.1\r\nHost: test\r\n\r\n", func(c *net.TCPConn) {
			_, _ = io.ReadFull(c, make([]byte, 100<<10))
			c.Close()
		}, false},
		{"resets in an answer", "GET / HTTP/1.1\r\nHost: test\r\n\r\n", func(c *net.TCPConn) {
			_, _ = io.ReadFull(c, make([]byte, 100<<10))
			_ = c.SetLinger(0)
			c.Close()
		}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			conn := dial(t, c.Address("front"))
			_, err := io.WriteString(conn, tt.send)
			must(t, err)
			if tt.body {
				await(t, begun)
			}
			tt.leave(conn)
			if tt.body && await(t, bodies) == nil {
				t.Error("the server has got a whole body")
			}
			_, _ = io.Copy(io.Discard, conn) // the end, whatever comes before it
			conn.Close()
			settled(t, s, "behind")
			harness.Wait(t, "the server's connection to end", func() bool { return b.Open.Load() == 0 })
		})
	}
}
