package conformance

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"reuseportd/internal/config"
	service "reuseportd/internal/service/http"
)

// wants sends a GET and wants an answer that says whether the connection ends with it.
func wants(t testing.TB, c io.Writer, r *bufio.Reader, path string, closes bool) {
	t.Helper()
	_, _ = io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: h\r\n\r\n")
	if a := read(t, r, "GET"); a.status != 200 || a.close != closes {
		t.Fatalf("%s: %d, close %v, want %v", path, a.status, a.close, closes)
	}
	if closes {
		nothingMore(t, r)
	}
}

// TestMaxRequests: the answer to the last one says so, of whichever kind it is.
func TestMaxRequests(t *testing.T) {
	b := listen(t, again("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"))
	conf := proxying()
	conf.MaxRequests = 3
	conf.Routes = append(conf.Routes, config.Route{Path: "/fixed", Respond: &config.Respond{Status: 200, Body: []byte("b")}})
	s, _ := front(t, "tcp", conf, app(b.addr))
	for _, last := range []string{"/fixed", "/passed"} {
		c := s.dial(t)
		r := bufio.NewReader(c)
		wants(t, c, r, "/passed", false)
		wants(t, c, r, "/fixed", false)
		wants(t, c, r, last, true)
	}
	t.Run("pipelined", func(t *testing.T) {
		raw := s.feed(t, strings.Repeat("GET /fixed HTTP/1.1\r\nHost: h\r\n\r\n", 10))
		if got := statuses(parseAll(t, undated(raw))); got != "200 200 200" {
			t.Errorf("got %q", got)
		}
	})
}

// TestMaxRequestsMoved: requests count wherever they were answered.
func TestMaxRequestsMoved(t *testing.T) {
	conf := base("")
	conf.MaxRequests = 2
	first, second := twoServers(t, "tcp", conf)
	c := first.dial(t)
	r := bufio.NewReader(c)
	wants(t, c, r, "/", false)
	if parcels, err := first.hand(t, second); err != nil || len(parcels) != 1 || parcels[0].Served != 1 {
		t.Fatalf("%+v, %v", parcels, err)
	}
	wants(t, c, r, "/", true)
}

// TestMaxLifetime: an idle connection is closed when its time is over, not before, also one
// that has just been opened, however much longer it might have waited for a request.
func TestMaxLifetime(t *testing.T) {
	conf := base("")
	conf.MaxLifetime = 300 * time.Millisecond
	s := serve(t, "tcp", conf, service.Options{AccessLog: -1})
	for name, requests := range map[string]int{"fresh": 0, "kept": 3} {
		t.Run(name, func(t *testing.T) {
			before := time.Now()
			c := s.dial(t)
			r := bufio.NewReader(c)
			for range requests {
				_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
				if _, err := r.Peek(1); err == io.EOF {
					break // while the request was on its way; when, is looked at below
				}
				if a := read(t, r, "GET"); a.status != 200 {
					t.Fatalf("answered %d", a.status)
				} else if a.close {
					break
				}
			}
			nothingMore(t, r)
			if took := time.Since(before); took < conf.MaxLifetime || took > conf.KeepaliveTimeout/2 {
				t.Errorf("closed after %v", took)
			}
		})
	}
}

// TestMaxLifetimeAnswer: a request that comes to its end when the time is over is answered.
func TestMaxLifetimeAnswer(t *testing.T) {
	conf := base("")
	conf.MaxLifetime = 50 * time.Millisecond
	s := serve(t, "tcp", conf, service.Options{AccessLog: -1})
	start := time.Now()
	c := s.dial(t)
	_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\na")
	s.waitFor(t, "age", func(eventCounters) bool { return time.Since(start) > 4*conf.MaxLifetime })
	_, _ = io.WriteString(c, "b")
	r := bufio.NewReader(c)
	if a := read(t, r, "POST"); a.status != 200 || !a.close {
		t.Errorf("%+v", a)
	}
	nothingMore(t, r)
}

// TestTunnelTimeout: a tunnel ends when nothing has moved either way for so long, wherever it is by
// then, and though a deadline is set as well.
func TestTunnelTimeout(t *testing.T) {
	for name, total := range map[string]time.Duration{"alone": 0, "with a deadline": time.Hour} {
		t.Run(name, func(t *testing.T) {
			b := listen(t, upgrades)
			conf := proxying()
			conf.TunnelTimeout, conf.Routes[0].Proxy.TotalTimeout = 300*time.Millisecond, total
			from, _ := front(t, "tcp", conf, app(b.addr))
			to, _ := front(t, "tcp", conf, app(b.addr))
			quiet := func(s *server) {
				t.Helper()
				s.waitFor(t, "the end", func(k eventCounters) bool { return k.Open == 0 && k.UpstreamOpen == 0 && k.Quiet == 1 })
			}
			start := time.Now()
			_, r := tunnelled(t, from, "")
			if got, err := io.ReadAll(r); err != nil || string(got) != "first;" {
				t.Errorf("%q, %v", got, err)
			}
			if took := time.Since(start); took < conf.TunnelTimeout {
				t.Errorf("ended after %v", took)
			}
			quiet(from)
			_, r = tunnelled(t, from, "")
			if n, _, err := from.handPooled(t, to); err != nil || n != 1 {
				t.Fatalf("%d moved, %v", n, err)
			}
			if got, err := io.ReadAll(r); err != nil || string(got) != "first;" {
				t.Errorf("%q, %v", got, err)
			}
			quiet(to)
		})
	}
}

// TestTunnelMoves: what goes either way puts the end off, though the other way is silent.
func TestTunnelMoves(t *testing.T) {
	for _, way := range []string{"up", "down"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			far := make(chan net.Conn, 1)
			ended := make(chan struct{})
			b := listen(t, func(c net.Conn, _ int) {
				_, _ = http.ReadRequest(bufio.NewReader(c))
				_, _ = io.WriteString(c, switched)
				far <- c
				<-ended
			})
			defer close(ended)
			conf := proxying()
			conf.TunnelTimeout = 2 * time.Second
			s, _ := front(t, "tcp", conf, app(b.addr))
			c, _ := tunnelled(t, s, "")
			from, to := c, <-far
			if way == "down" {
				from, to = to, from
			}
			one := make([]byte, 1)
			for start := time.Now(); time.Since(start) < conf.TunnelTimeout+conf.TunnelTimeout/4; time.Sleep(20 * time.Millisecond) {
				if _, err := from.Write(one); err != nil {
					t.Fatal(err)
				}
				if _, err := to.Read(one); err != nil {
					t.Fatalf("%v after %v", err, time.Since(start))
				}
			}
		})
	}
}
