package conformance

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"reuseportd/internal/config"
)

// TestProxyNoServer: 503 at once when none is up, or all are full.
func TestProxyNoServer(t *testing.T) {
	u := app(nobody(t))
	u.MaxFailures, u.CoolDown = 1, time.Hour
	s, failures := front(t, "tcp", proxying(), u)
	if got, _ := answers(s.feed(t, get+get+closeGet), "GET"); got != "502 502 Bad Gateway\n|503 503 Service Unavailable\n|503 503 Service Unavailable\n" {
		t.Errorf("got %q", got)
	}
	if got := failures.reasons(); got != "connection refused|no server is up" {
		t.Errorf("told of %q", got)
	}

	let := make(chan bool)
	b := listen(t, func(c net.Conn, _ int) {
		r := bufio.NewReader(c)
		for {
			if _, err := http.ReadRequest(r); err != nil {
				return
			}
			<-let
			_, _ = io.WriteString(c, fine)
		}
	})
	u = app(b.addr)
	u.Servers[0].MaxConnections = 1
	s, failures = front(t, "tcp", proxying(), u)
	first := s.dial(t)
	r := bufio.NewReader(first)
	for range 2 { // which frees its place with its answer
		_, _ = io.WriteString(first, get)
		s.waitFor(t, "the request", func(k eventCounters) bool { return s.board().InUse == 1 })
		if got, _ := answers(s.feed(t, closeGet), "GET"); got != "503 503 Service Unavailable\n" {
			t.Errorf("got %q", got)
		}
		let <- true
		if a := read(t, r, "GET"); a.body != "fine" {
			t.Errorf("%+v", a)
		}
	}
	if got := failures.reasons(); got != "all servers are full" {
		t.Errorf("told of %q", got)
	}
}

// TestProxyPoolBounds: idle connections are kept up to a number and for a time.
func TestProxyPoolBounds(t *testing.T) {
	for _, keep := range []int{0, 2} {
		came, let := make(chan bool, 4), make(chan bool)
		b := listen(t, func(c net.Conn, _ int) {
			r := bufio.NewReader(c)
			for {
				if _, err := http.ReadRequest(r); err != nil {
					return
				}
				came <- true
				<-let
				_, _ = io.WriteString(c, fine)
			}
		})
		u := app(b.addr)
		u.IdleConnections, u.IdleTimeout = keep, 50*time.Millisecond
		s, _ := front(t, "tcp", proxying(), u)
		var all []*bufio.Reader
		for range 4 {
			c := s.dial(t)
			_, _ = io.WriteString(c, get)
			all = append(all, bufio.NewReader(c))
			<-came
		}
		close(let)
		for _, r := range all {
			if a := read(t, r, "GET"); a.body != "fine" || a.close {
				t.Errorf("%+v", a)
			}
		}
		if k := s.count(); k.UpstreamOpen > uint64(keep) || b.accepted() != 4 {
			t.Errorf("%d of %d are kept, %d were made", k.UpstreamOpen, keep, b.accepted())
		}
		s.waitFor(t, "the end of the idle ones", func(k eventCounters) bool { return k.UpstreamOpen == 0 })
	}
}

// TestProxyUnasked: what a server says on an idle connection is nobody's answer.
func TestProxyUnasked(t *testing.T) {
	say := make(chan bool)
	b := listen(t, func(c net.Conn, n int) {
		script(fine)(c, n)
		if n == 0 {
			<-say
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
		}
		again(fine)(c, n)
	})
	s, _ := front(t, "tcp", proxying(), app(b.addr))
	c := s.dial(t)
	r := bufio.NewReader(c)
	_, _ = io.WriteString(c, get)
	read(t, r, "GET")
	say <- true
	s.waitFor(t, "the end of that connection", func(k eventCounters) bool { return k.UpstreamOpen == 0 })
	_, _ = io.WriteString(c, get)
	if a := read(t, r, "GET"); a.body != "fine" || b.accepted() != 2 {
		t.Errorf("%+v", a)
	}
}

// TestProxyUnaskedBehind: what a server sends behind content that is passed on unread is not
// the answer to the next request, which is there already.
func TestProxyUnaskedBehind(t *testing.T) {
	const unasked = "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nunasked"
	b := listen(t, func(c net.Conn, _ int) {
		r := bufio.NewReader(c)
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			answer := fine
			if n, err := strconv.Atoi(req.URL.Query().Get("n")); err == nil {
				answer = fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s%s", n, strings.Repeat("x", n), unasked)
			}
			_, _ = io.WriteString(c, answer)
		}
	})
	s, _ := front(t, "tcp", proxying(), app(b.addr))
	c := s.dial(t)
	r := bufio.NewReader(c)
	for n := 128 << 10; n <= 1<<20; n *= 2 {
		_, _ = fmt.Fprintf(c, "GET /?n=%d HTTP/1.1\r\nHost: x\r\n\r\n%s", n, get)
		if a := read(t, r, "GET"); a.status != 200 || len(a.body) != n {
			t.Fatalf("%d bytes: %d, %d bytes", n, a.status, len(a.body))
		}
		if a := read(t, r, "GET"); a.body != "fine" {
			t.Fatalf("behind %d bytes: %+v", n, a)
		}
	}
}

// TestProxyHash: a client's field, or its address, leads to the same server.
func TestProxyHash(t *testing.T) {
	var addrs []string
	for i := range 5 {
		addrs = append(addrs, listen(t, again(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d", i))).addr)
	}
	for _, field := range []string{"", "X-User"} {
		u := app(addrs...)
		u.Balance, u.HashHeader = config.BalanceHash, field
		s, _ := front(t, "tcp", proxying(), u)
		c := s.dial(t)
		r := bufio.NewReader(c)
		servers := make(map[string]string)
		for i := range 100 {
			user := fmt.Sprint(i % 20)
			_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: h\r\nx-user: "+user+"\r\n\r\n")
			a := read(t, r, "GET")
			if before := servers[user]; before != "" && before != a.body {
				t.Fatalf("user %s was at %s and is at %s", user, before, a.body)
			}
			servers[user] = a.body
		}
		used := make(map[string]bool)
		for _, s := range servers {
			used[s] = true
		}
		if (len(used) == 1) != (field == "") {
			t.Errorf("by %q %d servers are used", field, len(used))
		}
	}
}

// TestProxyBoard: what is counted of a server.
func TestProxyBoard(t *testing.T) {
	b := listen(t, func(c net.Conn, n int) {
		if n == 1 {
			script("nonsense")(c, n)
			return
		}
		script(fine, "HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n"+strings.Repeat("x", 300000))(c, n)
	})
	s, _ := front(t, "tcp", proxying(), app(b.addr))
	post := "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat("y", 100000)
	if got, _ := answers(s.feed(t, post+get+closeGet), "GET"); !strings.HasPrefix(got, "200 fine|200 xxx") || !strings.HasSuffix(got, "|502 502 Bad Gateway\n") {
		t.Errorf("got %.100q", got)
	}
	k := s.board()
	var failures uint64
	for _, n := range k.Failures {
		failures += n
	}
	if k.Sessions != 3 || k.Connects != 2 || failures != 1 || k.InUse != 0 ||
		k.BytesIn < 300000 || k.BytesIn > 300200 || k.BytesOut < 100000 || k.BytesOut > 101000 {
		t.Errorf("counted %+v", k)
	}
}
