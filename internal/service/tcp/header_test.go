package tcp_test

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"reuseportd/internal/config"
	"reuseportd/internal/eventloop"
	"reuseportd/internal/service/proxyproto"
)

// told is a server that says which header it got, then echoes.
func tellHeader(t *testing.T) func(net.Conn) {
	return func(c net.Conn) {
		var in []byte
		for buf := make([]byte, 1000); ; {
			n, err := c.Read(buf)
			if in = append(in, buf[:n]...); err != nil {
				t.Errorf("%q, %v", in, err)
				return
			}
			h, n, err := proxyproto.Parse(in)
			if err != nil {
				t.Errorf("%q: %v", in, err)
				return
			}
			if n > 0 {
				fmt.Fprintf(c, "%d %v %v|", h.Version, h.Source, h.Destination)
				_, _ = c.Write(in[n:])
				break
			}
		}
		echo(c)
	}
}

func answer(t *testing.T, c net.Conn) string {
	t.Helper()
	closeWrite(c)
	got, err := io.ReadAll(c)
	if err != nil {
		t.Errorf("after %q: %v", got, err)
	}
	return string(got)
}

func TestSendProxy(t *testing.T) {
	for version := 1; version <= 2; version++ {
		for _, network := range []string{"tcp", "unix"} {
			t.Run(fmt.Sprint(network, version), func(t *testing.T) {
				p := start(t, network, func(_ *config.TCP, u *config.Upstream) { u.SendProxy = version }, listen(t, "tcp", tellHeader(t)).address())
				c := p.dial(t)
				_, _ = io.WriteString(c, "hello")
				want := fmt.Sprintf("%d %v %v|hello", version, c.LocalAddr(), c.RemoteAddr())
				if network == "unix" {
					want = fmt.Sprintf("%d %v %v|hello", version, netip.AddrPort{}, netip.AddrPort{})
				}
				if got := answer(t, c); got != want {
					t.Errorf("got %q, want %q", got, want)
				}
				p.empty(t)
			})
		}
	}
}

// What a header says that we get goes on in the one that we send.
func TestAcceptProxy(t *testing.T) {
	src, dst := netip.MustParseAddrPort("192.0.2.7:4711"), netip.MustParseAddrPort("198.51.100.1:443")
	const v1 = "PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n"
	for in := 1; in <= 2; in++ {
		for out := 0; out <= 2; out++ {
			t.Run(fmt.Sprint(in, out), func(t *testing.T) {
				serve := tellHeader(t)
				if out == 0 {
					serve = echo
				}
				p := start(t, "tcp", func(c *config.TCP, u *config.Upstream) { c.AcceptProxy, u.SendProxy = true, out }, listen(t, "tcp", serve).address())
				head := proxyproto.Append(nil, in, src, dst)
				want := fmt.Sprintf("%d %v %v|hello", out, src, dst)
				if out == 0 {
					want = "hello"
				}
				// In one piece, and byte by byte.
				c := p.dial(t)
				_, _ = c.Write(append(slices.Clone(head), "hello"...))
				if got := answer(t, c); got != want {
					t.Errorf("got %q, want %q", got, want)
				}
				c = p.dial(t)
				p.drip(t, c, head)
				_, _ = io.WriteString(c, "hello")
				if got := answer(t, c); got != want {
					t.Errorf("got %q, want %q", got, want)
				}
				p.empty(t)
			})
		}
	}
	// One that says nothing leaves the connection's own.
	p := start(t, "tcp", func(c *config.TCP, u *config.Upstream) { c.AcceptProxy, u.SendProxy = true, 1 }, listen(t, "tcp", tellHeader(t)).address())
	c := p.dial(t)
	_, _ = io.WriteString(c, "PROXY UNKNOWN\r\n")
	want := fmt.Sprintf("1 %v %v|", c.LocalAddr(), c.RemoteAddr())
	if got := answer(t, c); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	_ = v1
}

// drip sends byte by byte, each when the one before has been read.
func (p *proxy) drip(t *testing.T, c net.Conn, b []byte) {
	t.Helper()
	var before uint64
	p.on(func() { before = p.Count().BytesIn })
	for i := range b {
		_, _ = c.Write(b[i : i+1])
		p.waitFor(t, "reading a byte", func(k eventloop.Counters) bool { return k.BytesIn == before+uint64(i)+1 })
	}
}

// A client whose header is none gets no server.
func TestBadHeader(t *testing.T) {
	accepted := make(chan struct{}, 10)
	p := start(t, "tcp", func(c *config.TCP, _ *config.Upstream) { c.AcceptProxy = true },
		listen(t, "tcp", func(net.Conn) { accepted <- struct{}{} }).address())
	for _, in := range []string{"GET / HTTP/1.1\r\n", "PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n", strings.Repeat("\r\n\r\n\x00\r\nQUIT\n", 2)} {
		c := p.dial(t)
		_, _ = io.WriteString(c, in)
		if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil {
			t.Errorf("%q: read %d, %v", in, n, err)
		}
	}
	// Who only looks in is no failure.
	p.dial(t).Close()
	p.empty(t)
	if got := p.told(); !slices.Equal(got, []string{"bad PROXY header"}) { // the others within a second
		t.Errorf("told: %q", got)
	}
	if len(accepted) > 0 {
		t.Error("a server was connected to")
	}
}
