package transport_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"reuseportd/internal/eventloop"
	"reuseportd/internal/tls/certs"
	"reuseportd/internal/tls/record"
	"reuseportd/internal/tls/transport"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// within is how long a test waits for an event that never comes.
const within = 60 * time.Second

// echo is a handler that sends back what it gets, and can move.
type echo struct{ s *server }

func (echo) Opened(*eventloop.Conn)                              {}
func (echo) Flushed(*eventloop.Conn)                             {}
func (echo) TimedOut(c *eventloop.Conn)                          { c.Close() }
func (echo) Closed(*eventloop.Conn)                              {}
func (echo) Ended(c *eventloop.Conn)                             { c.Finish(false) }
func (e echo) Received(c *eventloop.Conn, in []byte) int         { e.s.last = c; c.Write(in); return len(in) }
func (echo) Kind(*eventloop.Conn) string                         { return "echo" }
func (echo) Freeze(*eventloop.Conn, []byte) (s []byte, fd []int) { return nil, nil }
func (echo) Thaw(*eventloop.Conn, string, []byte, []int) error   { return nil }

// server is a loop that runs, with one listener that speaks TLS.
type server struct {
	*eventloop.Loop
	t       *testing.T
	addr    string
	service *eventloop.Service
	tls     *transport.Listener
	failed  []string        // on the loop's goroutine
	last    *eventloop.Conn // that something came from, likewise
}

// serve runs a loop until the test ends. most is how many handshakes it has at the same time.
func serve(t *testing.T, conf *tls.Config, most int, leafs ...*tls.Certificate) *server {
	t.Helper()
	l, err := eventloop.New(eventloop.Options{Panicked: func(v any, stack []byte) { t.Errorf("%v\n%s", v, stack) }})
	must(t, err)
	s := &server{Loop: l, t: t, tls: new(transport.Listener)}
	s.tls.Use(transport.Settings{Config: conf, Certs: certs.NewSet(leafs)})
	s.service = l.NewService(echo{s}, 0)
	s.service.SetTransports(transport.New(l, transport.Options{
		Shared: s.tls, Warm: new(transport.Warm), Most: most,
		Failed: func(_ *eventloop.Conn, why error) { s.failed = append(s.failed, why.Error()) },
	}), l.Class(within))
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	must(t, err)
	must(t, unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	must(t, unix.Listen(fd, 1024))
	at, err := unix.Getsockname(fd)
	must(t, err)
	s.addr = (&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: at.(*unix.SockaddrInet4).Port}).String()
	_, err = l.Listen(fd, s.service, eventloop.Sharing{})
	must(t, err)
	done := make(chan error, 1)
	go func() { done <- l.Run() }()
	t.Cleanup(func() {
		l.Post(l.Stop)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// do calls f on the loop's goroutine.
func (s *server) do(f func()) {
	s.t.Helper()
	done := make(chan struct{})
	s.Post(func() { defer close(done); f() })
	select {
	case <-done:
	case <-time.After(within):
		s.t.Fatal("the loop doesn't answer")
	}
}

// until waits for something to be true of the loop.
func (s *server) until(what string, ok func() bool) {
	s.t.Helper()
	for end := time.Now().Add(within); ; {
		is := false
		s.do(func() { is = ok() })
		if is {
			return
		}
		if time.Now().After(end) {
			s.t.Fatalf("it never comes that %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

func (s *server) dial() *net.TCPConn {
	s.t.Helper()
	c, err := net.Dial("tcp", s.addr)
	must(s.t, err)
	s.t.Cleanup(func() { c.Close() })
	must(s.t, c.SetDeadline(time.Now().Add(within)))
	return c.(*net.TCPConn)
}

// client is a connection behind its handshake.
func (s *server) client(conf *tls.Config) *tls.Conn {
	s.t.Helper()
	c := tls.Client(s.dial(), conf)
	must(s.t, c.Handshake())
	return c
}

// says has a text echoed.
func says(t testing.TB, c net.Conn, text string) {
	t.Helper()
	go func() { _, _ = io.WriteString(c, text) }()
	got := make([]byte, len(text))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != text {
		t.Fatalf("got %d bytes of %d, error %v", len(got), len(text), err)
	}
}

// issue makes a certificate for a.example, signed by itself.
func issue(t testing.TB, key crypto.Signer) *tls.Certificate {
	t.Helper()
	c := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "somebody"}, DNSNames: []string{"a.example"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	must(t, err)
	leaf, err := x509.ParseCertificate(der)
	must(t, err)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func ec(t testing.TB) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	return issue(t, key)
}

// heldRSA signs when it gets leave.
type heldRSA struct {
	*rsa.PrivateKey
	leave chan struct{}
}

func (heldRSA) Slow() bool { return true }

func (k heldRSA) Sign(r io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	<-k.leave
	return k.PrivateKey.Sign(r, digest, opts)
}

// config is a server's with a certificate.
func config(c *tls.Certificate) *tls.Config {
	conf := &tls.Config{
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c, nil },
		MinVersion:     tls.VersionTLS12, CipherSuites: record.Suites(),
	}
	conf.SetSessionTicketKeys([][32]byte{{1}})
	return conf
}

// trusting is a client's that believes any server.
func trusting(version uint16) *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, ServerName: "a.example", MaxVersion: version}
}

// pemOf returns a certificate in PEM.
func pemOf(c *tls.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]})
}

// helloOf returns a client's first message, in its records.
func helloOf(t testing.TB, conf *tls.Config) []byte {
	t.Helper()
	a, b := net.Pipe()
	go func() { _ = tls.Client(a, conf).Handshake() }()
	defer a.Close()
	defer b.Close()
	head := make([]byte, 5)
	_, err := io.ReadFull(b, head)
	must(t, err)
	body := make([]byte, int(head[3])<<8|int(head[4]))
	_, err = io.ReadFull(b, body)
	must(t, err)
	return append(head, body...)
}

// records splits a message of the handshake, in one record, into records of n bytes.
func records(hello []byte, n int) (out []byte) {
	msg := hello[5:]
	for len(msg) > 0 {
		k := min(n, len(msg))
		out = append(append(out, 22, 3, 1, byte(k>>8), byte(k)), msg[:k]...)
		msg = msg[k:]
	}
	return out
}

// ends reads all that a server still says, and reports whether it has ended the connection in whatever way.
func ends(t testing.TB, c net.Conn) []byte {
	t.Helper()
	got, err := io.ReadAll(c)
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		t.Fatal("the server doesn't end the connection")
	}
	return got
}

// alert is the fatal alert at the end of what a server said in the clear, -1 if there is none.
func alert(said []byte) int {
	if n := len(said); n >= 7 && bytes.HasPrefix(said[n-7:], []byte{21, 3}) && said[n-2] == 2 {
		return int(said[n-1])
	}
	return -1
}
