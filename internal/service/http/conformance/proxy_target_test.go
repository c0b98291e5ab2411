package conformance

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"reuseportd/internal/config"
	service "reuseportd/internal/service/http"
)

// guarded has the routes / and /free/, which are passed on, and /admin, which is not.
func guarded() *config.HTTP {
	conf := proxying()
	free := conf.Routes[0]
	free.Path, free.Proxy = "/free/", &config.Proxy{Upstream: "app", Host: config.HostPreserve, ResponseTimeout: 10 * time.Second, StripPrefix: true}
	conf.Routes = append(conf.Routes, free, config.Route{Path: "/admin", Respond: &config.Respond{Status: 403}})
	return conf
}

// TestTargetsAsTheyCame: what a server gets is what the client sent, and nothing that
// some server could read as the path of another route.
func TestTargetsAsTheyCame(t *testing.T) {
	b := strict(t)
	s, _ := front(t, "unix", guarded(), app(b.addr))
	for _, c := range []struct{ sent, want string }{
		{"/api/queues/%2F/orders/contents", ""},
		{"/b/%2F%2F/c%2fd", ""},
		{"//b//c/", ""},
		{"/b/https://h//x?u=//y/../z", ""},
		{"/%7euser/%C3%A9/a;v=1/b\\c", ""},
		{"/a/./b/../c%2Fd//", "/a/c%2Fd//"},
		{"/a/%2e/b/.%2E/c%2Fd//", "/a/c%2Fd//"},
		{"/é?ü", "/%C3%A9?%C3%BC"},
		{"/free/%2F//x", "/%2F//x"},
		{"/free%2Fx", "/x"},
		{"/x/..%2fy", "/y"},
		{"/a//../b%2Fc", "/b/c"},

		{"/admin", "403"},
		{"//admin", "403"},
		{"/%61dmin", "403"},
		{"/x/%2e%2e/admin", "403"},
		{"/%2e/admin", "403"},
		{"/x/..%2fadmin", "403"},
		{"/x%2f../admin", "403"},
		{"/admin%2fx", "403"},
		{"/admin/x%2f..%2f..%2fy", "/y"},
		{"/admin/x%2f../../y", "/y"},
		{"/\\admin", "400"},
		{"/x/..\\admin", "400"},
		{"/x/..%5Cadmin", "400"},
		{"/x\\..%2fadmin", "400"},
		{"/x/..;/admin", "400"},
		{"/x/..;a=b/admin", "400"},
		{"/x/..%3b/admin", "400"},
		{"/;/admin", "400"},
		{"/admin;x", "400"},
		{"/x/%2e%2e;/admin", "400"},
		{"/x/%c0%ae%c0%ae/admin", "400"},
		{"/x/%e0%80%ae./admin", "400"},
		{"/x%c0%af..%c0%afadmin", "400"},
		{"/x/%252e%252e/admin", "400"},
		{"/%2561dmin", "400"},
		{"/x/%252e%252e%255cadmin", "400"},
		{"/free/..;/x", "400"},
		{"/free/..;/admin", "400"},
		{"/x/%00/admin", "400"},
		{"/Admin", ""}, // another path: RFC 3986 section 6.2.2.1
	} {
		got, _ := answers(s.feed(t, "GET "+c.sent+" HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"), "GET")
		seen, _ := b.take()
		switch {
		case len(c.want) == 3:
			if !strings.HasPrefix(got, c.want+" ") || len(seen) > 0 {
				t.Errorf("%s: got %q, the server %q; want %s", c.sent, got, seen, c.want)
			}
		default:
			want := c.want
			if want == "" {
				want = c.sent
			}
			if len(seen) != 1 || seen[0] != "GET "+want+" 0" {
				t.Errorf("%s: got %q, the server %q, want %s", c.sent, got, seen, want)
			}
		}
	}
}

// TestProxyBodyBeforeTunnel is how docker exec begins.
func TestProxyBodyBeforeTunnel(t *testing.T) {
	for name, body := range map[string]string{
		"length":  "Content-Length: 5\r\n\r\nhello",
		"chunked": "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			b := listen(t, func(c net.Conn, _ int) {
				r := bufio.NewReader(c)
				req, err := http.ReadRequest(r)
				if err != nil {
					return
				}
				body, _ := io.ReadAll(req.Body)
				fmt.Fprintf(c, "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n%s ", req.Header.Get("Upgrade"), body)
				_, _ = io.Copy(struct{ io.Writer }{c}, r) // not by splice(2), whose pipes the runtime keeps
			})
			s, _ := front(t, "tcp", proxying(), app(b.addr))
			for _, split := range []int{0, 4} { // with the head, or behind it
				c, err := net.Dial("tcp", s.addr)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(20 * time.Second))
				all := "POST /exec/1/start HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n" + body
				_, _ = io.WriteString(c, all[:len(all)-split])
				s.waitFor(t, "the server's connection", func(k eventCounters) bool { return k.UpstreamOpen > 0 })
				_, _ = io.WriteString(c, all[len(all)-split:]+"said early, ")
				r := bufio.NewReader(c)
				resp, err := http.ReadResponse(r, nil)
				if err != nil || resp.StatusCode != 101 || resp.Header.Get("Upgrade") != "tcp" {
					t.Fatal(resp, err)
				}
				_, _ = io.WriteString(c, "and late")
				_ = c.(*net.TCPConn).CloseWrite()
				if rest, err := io.ReadAll(r); string(rest) != "hello said early, and late" {
					t.Errorf("%q, %v", rest, err)
				}
				s.waitFor(t, "the end", func(k eventCounters) bool { return k.Open == 0 && k.UpstreamOpen == 0 })
			}
		})
	}
}

// TestProxyHashWithoutHeader: who doesn't send the field is known by the address.
func TestProxyHashWithoutHeader(t *testing.T) {
	seen := make(map[int]int)
	var addrs []string
	hits := make(chan int, 100)
	for i := range 3 {
		b := listen(t, func(c net.Conn, _ int) {
			if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
				hits <- i
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
			}
		})
		addrs = append(addrs, b.addr)
	}
	u := app(addrs...)
	u.Balance, u.HashHeader = config.BalanceHash, "X-User"
	s, _ := front(t, "tcp", proxying(), u)
	for i := range 40 {
		for _, field := range []string{"", "X-User:\r\n"} {
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(i))}}
			c, err := d.Dial("tcp", s.addr)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n"+field+"\r\n")
			_, _ = io.ReadAll(c)
			c.Close()
			seen[<-hits]++
		}
	}
	if len(seen) != 3 {
		t.Errorf("40 clients at the servers %v, want all three", seen)
	}
}

// TestProxyAnswersOfOldServers: blanks behind a chunk's size, and a 426 with its Upgrade.
func TestProxyAnswersOfOldServers(t *testing.T) {
	for raw, want := range map[string]string{
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5  \r\nhello\r\n0\t\r\n\r\n":                  "5\r\nhello\r\n0\r\n\r\n",
		"HTTP/1.1 426 Upgrade Required\r\nUpgrade: x/1\r\nConnection: Upgrade\r\nContent-Length: 0\r\n\r\n": "Upgrade: x/1\r\nConnection: Upgrade\r\n",
	} {
		b := listen(t, again(raw))
		s, _ := front(t, "tcp", proxying(), app(b.addr))
		if got := s.feed(t, closeGet); !strings.Contains(string(got), want) {
			t.Errorf("%q became %q", raw, got)
		}
	}
}

// TestIfRangeOfAYoungFile: a date that another content may have as well is no validator.
func TestIfRangeOfAYoungFile(t *testing.T) {
	root := t.TempDir()
	s := serve(t, "unix", base(root), service.Options{AccessLog: -1})
	path := filepath.Join(root, "young.txt")
	for i := range 3 {
		if err := os.WriteFile(path, fmt.Appendf(nil, "version %d", i), 0o644); err != nil {
			t.Fatal(err)
		}
		whole := s.ask(t, "GET", "/files/young.txt")
		st, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		date := st.ModTime().UTC().Format(http.TimeFormat)
		if last := whole.header.Get("Last-Modified"); last != "" && time.Since(st.ModTime()) < time.Second {
			t.Errorf("Last-Modified: %s, in the same second", last)
		}
		got := s.ask(t, "GET", "/files/young.txt", "Range: bytes=1-2", "If-Range: "+date)
		if got.status != 200 && time.Since(st.ModTime()) < time.Second {
			t.Errorf("answer %d to a date that isn't strong", got.status)
		}
		if got := s.ask(t, "GET", "/files/young.txt", "Range: bytes=1-2", "If-Range: "+whole.header.Get("Etag")); got.status != 206 {
			t.Errorf("answer %d to a tag", got.status)
		}
	}
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
	if got := s.ask(t, "GET", "/files/young.txt", "Range: bytes=1-2", "If-Range: "+old.UTC().Format(http.TimeFormat)); got.status != 206 {
		t.Errorf("answer %d to a strong date", got.status)
	}
}
