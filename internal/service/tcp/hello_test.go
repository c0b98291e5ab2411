package tcp_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"reuseportd/internal/config"
)

// certificate is one of no name, which no client here verifies.
var certificate = func() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1)}, &x509.Certificate{}, key.Public(), key)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}()

// secure is a TLS server that says who it is, then echoes.
func secure(name string) func(net.Conn) {
	return func(raw net.Conn) {
		c := tls.Server(raw, &tls.Config{Certificates: []tls.Certificate{certificate}})
		if _, err := io.WriteString(c, name+"|"); err == nil {
			_, _ = io.Copy(c, c)
			_ = c.CloseWrite()
		}
	}
}

// plain is a server that says who it is, then echoes.
func plain(name string) func(net.Conn) {
	return func(c net.Conn) {
		_, _ = io.WriteString(c, name+"|")
		echo(c)
	}
}

// tlsConfig asks for a name.
func tlsConfig(name string) *tls.Config {
	return &tls.Config{ServerName: name, InsecureSkipVerify: true}
}

// talk says hello over TLS, and returns who has echoed it.
func talk(raw net.Conn, conf *tls.Config) (string, error) {
	defer raw.Close()
	c := tls.Client(raw, conf)
	if _, err := io.WriteString(c, "hello"); err != nil {
		return "", err
	}
	if err := c.CloseWrite(); err != nil {
		return "", err
	}
	got, err := io.ReadAll(c)
	return string(got), err
}

// bySNI starts a proxy that chooses by name; own is the upstream of all others, "" for none.
func bySNI(t testing.TB, own string, change func(*config.TCP, []config.Upstream), serve func(name string) func(net.Conn)) *proxy {
	t.Helper()
	conf := &config.TCP{Upstream: own, NoDelay: true, SNI: []config.SNI{
		{Name: "a.example", Upstream: "a"}, {Name: "*.example", Upstream: "wild"}, {Name: "*.b.example", Upstream: "b"},
	}}
	var ups []config.Upstream
	for _, name := range []string{"app", "a", "b", "wild"} {
		ups = append(ups, upstreamOf(name, listen(t, "tcp", serve(name)).address()))
	}
	if change != nil {
		change(conf, ups)
	}
	return startOf(t, "tcp", conf, ups...)
}

// TestSNI: the name in the hello chooses the upstream, whatever its case and however it is cut.
func TestSNI(t *testing.T) {
	p := bySNI(t, "app", nil, secure)
	for name, want := range map[string]string{
		"a.example": "a", "A.Example": "a", "x.a.example": "wild", "c.example": "wild", "b.example": "wild",
		"x.b.example": "b", "y.x.b.example": "b", "example": "app", "other.test": "app", "": "app", "192.0.2.1": "app",
	} {
		got, err := talk(p.dial(t), tlsConfig(name))
		if got != want+"|hello" || err != nil {
			t.Errorf("%q: %q, %v; want %s", name, got, err, want)
		}
	}
	got, err := talk(&slow{Conn: p.dial(t), p: p, t: t}, tlsConfig("a.example"))
	if got != "a|hello" || err != nil {
		t.Errorf("byte by byte: %q, %v", got, err)
	}
	p.empty(t)
	if told := p.told(); len(told) > 0 {
		t.Errorf("told: %q", told)
	}
}

// slow sends what it is given first byte by byte.
type slow struct {
	net.Conn
	p    *proxy
	t    *testing.T
	done bool
}

func (s *slow) Write(b []byte) (int, error) {
	if !s.done {
		s.p.drip(s.t, s.Conn, b)
		s.done = true
		return len(b), nil
	}
	return s.Conn.Write(b)
}

// TestSNIPlain: what is no TLS is the listener's own upstream's.
func TestSNIPlain(t *testing.T) {
	p := bySNI(t, "app", nil, plain)
	for _, in := range []string{"GET / HTTP/1.1\r\n\r\n", "\x00\x00\x00\x08\x04\xd2\x16\x2e", "\x80"} {
		c := p.dial(t)
		_, _ = io.WriteString(c, in)
		if got := answer(t, c); got != "app|"+in {
			t.Errorf("%q: %q", in, got)
		}
	}
	p.empty(t)
}

// TestSNIUnknown: who asks for a name of which there is none gets an alert, and is told of.
func TestSNIUnknown(t *testing.T) {
	p := bySNI(t, "", nil, secure)
	_, err := talk(p.dial(t), tlsConfig("other.test"))
	if err == nil || !strings.Contains(err.Error(), "unrecognized name") {
		t.Errorf("%v", err)
	}
	if got, err := talk(p.dial(t), tlsConfig("a.example")); got != "a|hello" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	p.empty(t)
	if told := p.told(); !slices.Equal(told, []string{"unknown TLS server name"}) {
		t.Errorf("told: %q", told)
	}
}

// TestSNIBad: what is no hello, with nobody for it, gets no server.
func TestSNIBad(t *testing.T) {
	for _, in := range []string{
		"GET / HTTP/1.1\r\n", "\x16\x03\x01\x00\x00", "\x16\x03\x01\xff\xff", "\x16\x03\x01\x00\x04\x02\x00\x00\x00",
		"\x00\x00\x00\x08\x04\xd2\x16\x2f\x16", strings.Repeat("\x16\x03\x01\x00\x01\x01", 100),
	} {
		p := bySNI(t, "", nil, func(string) func(net.Conn) {
			return func(net.Conn) { t.Error("a server was connected to") }
		})
		c := p.dial(t)
		_, _ = io.WriteString(c, in)
		if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil {
			t.Errorf("%q: read %d, %v", in, n, err)
		}
		p.empty(t)
		if told := p.told(); !slices.Equal(told, []string{"bad TLS hello"}) {
			t.Errorf("%q: told %q", in, told)
		}
	}
}

// TestSNIBehindHeader: the hello comes behind a PROXY header, in one piece with it or not.
func TestSNIBehindHeader(t *testing.T) {
	const head = "PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n"
	p := bySNI(t, "", func(c *config.TCP, _ []config.Upstream) { c.AcceptProxy = true }, secure)
	for _, together := range []bool{true, false} {
		c := p.dial(t)
		var raw net.Conn = c
		if together {
			raw = &ahead{c, []byte(head)}
		} else {
			p.drip(t, c, []byte(head))
		}
		if got, err := talk(raw, tlsConfig("a.example")); got != "a|hello" || err != nil {
			t.Errorf("together %v: %q, %v", together, got, err)
		}
	}
	p.empty(t)
}

// ahead sends something in one piece with what is written first.
type ahead struct {
	net.Conn
	head []byte
}

func (a *ahead) Write(b []byte) (int, error) {
	if a.head == nil {
		return a.Conn.Write(b)
	}
	n, err := a.Conn.Write(append(a.head, b...))
	n, a.head = max(n-len(a.head), 0), nil
	return n, err
}

// TestMoveHello moves a client after each byte of its hello, of PostgreSQL's request too, and then its pair.
func TestMoveHello(t *testing.T) {
	serve := func(name string) func(net.Conn) { return postgresServer(t, name, 'S') }
	a, b := bySNI(t, "app", nil, serve), bySNI(t, "app", nil, serve)
	c := a.dial(t)
	from, to := a, b
	moving := func(p []byte) {
		for i := range p {
			from.drip(t, c, p[i:i+1])
			if n, err := from.hand(t, to); n != 1 || err != nil {
				t.Fatal(i, n, err)
			}
			from, to = to, from
		}
	}
	moving(sslRequest[:7])
	from.drip(t, c, sslRequest[7:])
	if got := readByte(t, c); got != 'S' {
		t.Fatalf("%q", got)
	}
	first := true
	got, err := talk(&writer{c, func(p []byte) {
		if first { // its last byte has a server connected to
			moving(p[:len(p)-1])
			p = p[len(p)-1:]
		}
		first = false
		_, _ = c.Write(p)
	}}, tlsConfig("x.b.example"))
	if got != "b|hello" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	a.empty(t)
	b.empty(t)
}

// writer has its writes done by a function.
type writer struct {
	net.Conn
	write func([]byte)
}

func (w *writer) Write(p []byte) (int, error) { w.write(p); return len(p), nil }

// TestMoveNamed: a pair stays in use at the server of its upstream, and one whose upstream is gone goes on.
func TestMoveNamed(t *testing.T) {
	serve := listen(t, "tcp", secure("b"))
	conf := &config.TCP{SNI: []config.SNI{{Name: "b.example", Upstream: "b"}}}
	a := startOf(t, "tcp", conf, upstreamOf("b", serve.address()))
	b := startOf(t, "tcp", conf, upstreamOf("b", serve.address()))
	other := start(t, "tcp", nil, serve.address())
	c := tls.Client(a.dial(t), tlsConfig("b.example"))
	got := make([]byte, 2)
	if _, err := io.ReadFull(c, got); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		from, to *proxy
		inUse    int
	}{{a, b, 1}, {b, other, 0}} {
		if n, err := step.from.hand(t, step.to); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		if n := step.to.pool.inUse(); n != step.inUse {
			t.Errorf("%d in use, want %d", n, step.inUse)
		}
		_, _ = io.WriteString(c, "x")
		if _, err := io.ReadFull(c, got[:1]); err != nil || got[0] != 'x' {
			t.Errorf("%q, %v", got[:1], err)
		}
	}
}

// TestMoveHelloElsewhere: where no name matters the hello is the own upstream's, whoever waited for it before.
func TestMoveHelloElsewhere(t *testing.T) {
	a, b := bySNI(t, "app", nil, secure), start(t, "tcp", nil, listen(t, "tcp", secure("own")).address())
	c := a.dial(t)
	got, err := talk(&writer{c, func(p []byte) {
		if p[0] == 22 && p[5] == 1 {
			a.drip(t, c, p[:10])
			if n, err := a.hand(t, b); n != 1 || err != nil {
				t.Fatal(n, err)
			}
			p = p[10:]
		}
		_, _ = c.Write(p)
	}}, tlsConfig("a.example"))
	if got != "own|hello" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

var sslRequest = []byte{0, 0, 0, 8, 4, 210, 22, 47}

func readByte(t *testing.T, c net.Conn) byte {
	t.Helper()
	var b [1]byte
	if _, err := io.ReadFull(c, b[:]); err != nil {
		t.Fatal(err)
	}
	return b[0]
}

// postgresServer answers a request for TLS, and serves it if that is 'S'.
func postgresServer(t *testing.T, name string, answer byte) func(net.Conn) {
	return func(c net.Conn) {
		var b [8]byte
		if _, err := io.ReadFull(c, b[:]); err != nil || !bytes.Equal(b[:], sslRequest) {
			t.Errorf("the server got %q, %v", b, err)
			return
		}
		_, _ = c.Write([]byte{answer})
		if answer == 'S' {
			secure(name)(c)
		}
	}
}

// TestPostgres: a client that asks for TLS as PostgreSQL's do is answered, and its server is asked.
func TestPostgres(t *testing.T) {
	p := bySNI(t, "", nil, func(name string) func(net.Conn) { return postgresServer(t, name, 'S') })
	c := p.dial(t)
	_, _ = c.Write([]byte{0, 0, 0, 8, 4, 210, 22, 48}) // encryption by GSSAPI
	if got := readByte(t, c); got != 'N' {
		t.Fatalf("%q", got)
	}
	_, _ = c.Write(sslRequest)
	if got := readByte(t, c); got != 'S' {
		t.Fatalf("%q", got)
	}
	if got, err := talk(c, tlsConfig("a.example")); got != "a|hello" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	p.empty(t)
}

// TestPostgresWithout: a server without TLS is none, and another one is tried. What comes with its answer is not
// believed.
func TestPostgresWithout(t *testing.T) {
	for name, serve := range map[string]func(net.Conn){
		"no":        postgresServer(t, "", 'N'),
		"an error":  postgresServer(t, "", 'E'),
		"its end":   func(c net.Conn) { _, _ = io.ReadFull(c, make([]byte, 8)) },
		"a reset":   func(c net.Conn) { _, _ = io.ReadFull(c, make([]byte, 8)); reset(c) },
		"more data": func(c net.Conn) { _, _ = io.ReadFull(c, make([]byte, 8)); _, _ = c.Write([]byte("S\x15")); echo(c) },
	} {
		t.Run(name, func(t *testing.T) {
			conf := &config.TCP{SNI: []config.SNI{{Name: "a.example", Upstream: "a"}}}
			p := startOf(t, "tcp", conf, upstreamOf("a", listen(t, "tcp", serve).address(), listen(t, "tcp", postgresServer(t, "a", 'S')).address()))
			for range 2 { // one of them begins with the first
				c := p.dial(t)
				_, _ = c.Write(sslRequest)
				readByte(t, c)
				if got, err := talk(c, tlsConfig("a.example")); got != "a|hello" || err != nil {
					t.Errorf("%q, %v", got, err)
				}
			}
			p.empty(t)
			if told := p.told(); len(told) != 1 {
				t.Errorf("told: %q", told)
			}
		})
	}
}

// TestSNILate: who doesn't say hello in time is closed, and that is told.
func TestSNILate(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes ten seconds")
	}
	t.Parallel()
	p := bySNI(t, "app", nil, secure)
	begin := time.Now()
	c := p.dial(t)
	_, _ = c.Write([]byte{22, 3, 1})
	if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("read %d, %v", n, err)
	}
	if d := time.Since(begin); d < 10*time.Second {
		t.Errorf("closed after %v", d)
	}
	p.empty(t)
	if told := p.told(); !slices.Equal(told, []string{"bad TLS hello"}) {
		t.Errorf("told: %q", told)
	}
}
