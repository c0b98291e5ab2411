package conformance

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"reuseportd/internal/eventloop"
	service "reuseportd/internal/service/http"
)

const (
	upgrade  = "GET /chat HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n"
	switched = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: y\r\n\r\n"
)

// upgrades answers an upgrade, says something at once, and then echoes until its client
// has ended, when it says something last.
func upgrades(c net.Conn, _ int) {
	r := bufio.NewReader(c)
	req, err := http.ReadRequest(r)
	if err != nil || req.Header.Get("Upgrade") != "websocket" || req.Header.Get("Connection") != "Upgrade" {
		return
	}
	_, _ = io.WriteString(c, switched+"first;")
	if _, err := io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{r}); err == nil { // no pipes of net's
		_, _ = io.WriteString(c, ";last")
	}
}

// tunnelled dials and upgrades.
func tunnelled(t testing.TB, s *server, early string) (net.Conn, *bufio.Reader) {
	t.Helper()
	c := s.dial(t)
	_, _ = io.WriteString(c, upgrade+early)
	r := bufio.NewReader(c)
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != 101 || resp.Header.Get("Upgrade") != "websocket" ||
		resp.Header.Get("Connection") != "Upgrade" || resp.Header.Get("Sec-WebSocket-Accept") != "y" {
		t.Fatalf("%v, %v", resp, err)
	}
	return c, r
}

// TestProxyTunnel: after an upgrade both sides say what they want, until both have ended.
func TestProxyTunnel(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		b := listen(t, upgrades)
		s, failures := front(t, network, proxying(), app(b.addr))
		c, r := tunnelled(t, s, "early;")
		large := make([]byte, 3<<20)
		_, _ = rand.Read(large)
		go func() {
			_, _ = c.Write(large)
			_ = c.(interface{ CloseWrite() error }).CloseWrite()
		}()
		got, err := io.ReadAll(r)
		if want := append(append([]byte("first;early;"), large...), ";last"...); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes, %v, want %d", len(got), err, len(want))
		}
		s.waitFor(t, "the end", func(k eventCounters) bool { return k.Open == 0 && k.UpstreamOpen == 0 })
		if got := failures.reasons(); got != "" {
			t.Errorf("told of %q", got)
		}
	}
}

// TestProxyTunnelEnds: an end of either side, tidy or not, is the other's.
func TestProxyTunnelEnds(t *testing.T) {
	for _, who := range []string{"client", "server"} {
		for _, how := range []string{"close", "reset"} {
			t.Run(who+" "+how, func(t *testing.T) {
				conns := make(chan net.Conn, 1)
				b := listen(t, func(c net.Conn, _ int) {
					_, _ = http.ReadRequest(bufio.NewReader(c))
					_, _ = io.WriteString(c, switched)
					conns <- c
					_, _ = c.Read(make([]byte, 1))
				})
				s, _ := front(t, "tcp", proxying(), app(b.addr))
				c, r := tunnelled(t, s, "")
				one, other := c, <-conns
				if who == "server" {
					one, other = other, one
				}
				if how == "close" {
					one.Close()
				} else {
					reset(one)
				}
				if who == "server" {
					if _, err := r.ReadByte(); (err == io.EOF) != (how == "close") {
						t.Errorf("the client reads %v", err)
					}
				}
				other.Close()
				s.waitFor(t, "the end", func(k eventCounters) bool { return k.Open == 0 && k.UpstreamOpen == 0 })
			})
		}
	}
}

// TestProxyNoTunnel: an upgrade that the server doesn't make is an exchange like any other, and a
// 101 that nobody asked for is no answer.
func TestProxyNoTunnel(t *testing.T) {
	b := listen(t, again(fine))
	s, _ := front(t, "tcp", proxying(), app(b.addr))
	if got, _ := answers(s.feed(t, upgrade+closeGet), "GET"); got != "200 fine|200 fine" {
		t.Errorf("got %q", got)
	}
	b = listen(t, again(switched))
	s, _ = front(t, "tcp", proxying(), app(b.addr))
	for _, in := range []string{
		closeGet,
		"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: close\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings, close\r\nHTTP2-Settings: x\r\n\r\n",
		"GET / HTTP/1.0\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
	} {
		if got, _ := answers(s.feed(t, in), "GET"); got != "502 502 Bad Gateway\n" {
			t.Errorf("%q: got %q", in, got)
		}
	}
}

// twoFronts are a server and the one that takes over from it.
func twoFronts(t testing.TB, addrs ...string) (a, b *server) {
	t.Helper()
	a, _ = front(t, "tcp", proxying(), app(addrs...))
	b, _ = front(t, "tcp", proxying(), app(addrs...))
	return a, b
}

// handPooled is hand for all that a server has, idle connections to servers too.
func (s *server) handPooled(t testing.TB, to *server) (clients, idle int, refused error) {
	t.Helper()
	var ds []eventloop.Departure
	s.onLoop(func() {
		s.DrainTo(nil)
		ds = s.Depart(1 << 20)
	})
	for i := range ds {
		d := &ds[i]
		p := carry(t, d.Parcel)
		if p.Partner != nil {
			partner := carry(t, *p.Partner)
			p.Partner = &partner
		}
		var c *eventloop.Conn
		var err error
		svc := to.svc
		switch d.Service {
		case s.svc:
			clients++
		case s.pools["app"].Service():
			svc = to.pools["app"].Service()
			idle++
		default:
			t.Fatal("a connection of a service that nobody knows by name")
		}
		to.onLoop(func() { c, err = to.Arrive(svc, &p) })
		if err != nil {
			refused = err
			for _, fd := range p.FDs() {
				_ = unix.Close(fd)
			}
			s.onLoop(func() { s.Return(d, false) })
			continue
		}
		s.onLoop(func() { s.Departed(d) })
		to.onLoop(func() { to.Begin(c) })
	}
	return clients, idle, refused
}

// TestProxyTunnelMoves hands a tunnel over, there and back, while bytes flow both ways.
func TestProxyTunnelMoves(t *testing.T) {
	b := listen(t, upgrades)
	from, to := twoFronts(t, b.addr)
	c, r := tunnelled(t, from, "")
	_ = c.(*net.TCPConn).SetReadBuffer(64 << 10)
	large := make([]byte, 20<<20)
	_, _ = rand.Read(large)
	go func() {
		for at := 0; at < len(large); at += 1 << 20 {
			_, _ = c.Write(large[at : at+1<<20])
		}
		_ = c.(*net.TCPConn).CloseWrite()
	}()
	want := append(append([]byte("first;"), large...), ";last"...)
	got, hops := make([]byte, 0, len(want)), 0
	buf := make([]byte, 100<<10)
	for {
		n, err := r.Read(buf)
		got = append(got, buf[:n]...)
		if err != nil {
			if err != io.EOF {
				t.Error(err)
			}
			break
		}
		if len(got) < len(large)/2 && len(got) > hops<<19 {
			n, _, err := from.handPooled(t, to)
			if err != nil || n != 1 {
				t.Fatalf("hop %d: %d moved, %v", hops, n, err)
			}
			from, to = to, from
			hops++
		}
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%d bytes, want %d, or others", len(got), len(want))
	}
	if hops < 10 {
		t.Errorf("only %d hops", hops)
	}
	for _, s := range []*server{from, to} {
		s.waitFor(t, "the end", func(k eventCounters) bool { return k.Open == 0 && k.UpstreamOpen == 0 })
	}
}

// TestProxyPoolMoves: idle connections to servers go over, and are used there.
func TestProxyPoolMoves(t *testing.T) {
	b := listen(t, again(fine))
	from, to := twoFronts(t, b.addr)
	c := from.dial(t)
	r := bufio.NewReader(c)
	for i := range 6 {
		_, _ = io.WriteString(c, get)
		if a := read(t, r, "GET"); a.status != 200 {
			t.Fatal(a)
		}
		clients, idle, err := from.handPooled(t, to)
		if err != nil || clients != 1 || idle != 1 {
			t.Fatalf("hop %d: %d clients, %d idle, %v", i, clients, idle, err)
		}
		from, to = to, from
	}
	if n := b.accepted(); n != 1 {
		t.Errorf("%d connections were made", n)
	}
	if k := from.count(); k.UpstreamKept == 0 || k.UpstreamOpen != 1 {
		t.Errorf("counted %+v", k)
	}
}

// TestProxyPoolMovesElsewhere: an idle connection to a server that the next configuration
// doesn't have is closed.
func TestProxyPoolMovesElsewhere(t *testing.T) {
	b, other := listen(t, again(fine)), listen(t, again(fine))
	from, _ := front(t, "tcp", proxying(), app(b.addr))
	to, _ := front(t, "tcp", proxying(), app(other.addr))
	c := from.dial(t)
	r := bufio.NewReader(c)
	_, _ = io.WriteString(c, get)
	read(t, r, "GET")
	if clients, idle, err := from.handPooled(t, to); clients != 1 || idle != 1 || err == nil || !strings.Contains(err.Error(), "no server "+b.addr) {
		t.Fatalf("%d clients, %d idle, %v", clients, idle, err)
	}
	_, _ = io.WriteString(c, get)
	if a := read(t, r, "GET"); a.status != 200 || other.accepted() != 1 {
		t.Errorf("%+v", a)
	}
	from.waitFor(t, "the end of the other", func(k eventCounters) bool { return k.UpstreamOpen == 0 })
}

// TestProxyTunnelRefused: what is not understood of a tunnel stays where it is, whole, and
// nothing is left behind where it was refused.
func TestProxyTunnelRefused(t *testing.T) {
	b := listen(t, upgrades)
	for name, change := range map[string]func(p *eventloop.Parcel){
		"another kind":        func(p *eventloop.Parcel) { p.Kind = "http-tunnel.2" },
		"another kind of end": func(p *eventloop.Parcel) { p.Partner.Kind = "http-upstream.2" },
		"no partner":          func(p *eventloop.Parcel) { p.Partner = nil },
		"more":                func(p *eventloop.Parcel) { p.State = append(p.State, 0) },
		"less":                func(p *eventloop.Parcel) { p.State = nil },
		"more of the end":     func(p *eventloop.Parcel) { p.Partner.State = append(p.Partner.State, 0) },
		"less of the end":     func(p *eventloop.Parcel) { p.Partner.State = p.Partner.State[:3] },
		"an idle end":         func(p *eventloop.Parcel) { p.Partner.State[len(p.Partner.State)-1] = 0 },
	} {
		t.Run(name, func(t *testing.T) {
			from, to := twoFronts(t, b.addr)
			c, r := tunnelled(t, from, "")
			_, _ = r.Discard(len("first;"))
			from.onLoop(func() {
				from.DrainTo(nil)
				ds := from.Depart(100)
				if len(ds) != 1 {
					t.Fatalf("%d depart", len(ds))
				}
				p := carry(t, ds[0].Parcel)
				partner := carry(t, *p.Partner)
				p.Partner = &partner
				fds := p.FDs()
				change(&p)
				var err error
				to.onLoop(func() { _, err = to.Arrive(to.svc, &p) })
				for _, fd := range fds {
					_ = unix.Close(fd)
				}
				if err == nil {
					t.Error("it was taken")
				}
				from.Return(&ds[0], false)
			})
			_, _ = io.WriteString(c, "still here")
			got := make([]byte, 10)
			if _, err := io.ReadFull(r, got); err != nil || string(got) != "still here" {
				t.Errorf("%q, %v", got, err)
			}
			if k := to.count(); k.Open != 0 || k.UpstreamOpen != 0 {
				t.Errorf("counted %+v", k)
			}
		})
	}
}

// TestProxyTunnelWithoutUpstream: a tunnel outlives the upstream that it led to.
func TestProxyTunnelWithoutUpstream(t *testing.T) {
	b := listen(t, upgrades)
	from, _ := front(t, "tcp", proxying(), app(b.addr))
	to := serve(t, "tcp", base(""), service.Options{AccessLog: -1})
	c, r := tunnelled(t, from, "")
	if n, _, err := from.handPooled(t, to); n != 1 || err != nil {
		t.Fatalf("%d moved, %v", n, err)
	}
	_, _ = io.WriteString(c, "hello")
	_ = c.(*net.TCPConn).CloseWrite()
	if got, err := io.ReadAll(r); string(got) != "first;hello;last" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	to.waitFor(t, "the end", func(k eventCounters) bool { return k.Open == 0 && k.UpstreamOpen == 0 })
}
