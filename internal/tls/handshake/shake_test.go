package handshake

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"runtime"
	"testing"
	"time"

	"reuseportd/internal/tls/record"
)

func certificate(t testing.TB, key any, pub any) tls.Certificate {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"a.example"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, pub, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func ecCertificate(t testing.TB) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return certificate(t, key, key.Public())
}

// slowRSA signs beside the loop.
type slowRSA struct{ *rsa.PrivateKey }

func (slowRSA) Slow() bool { return true }

func rsaCertificate(t testing.TB) tls.Certificate {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	c := certificate(t, key, key.Public())
	c.PrivateKey = slowRSA{key}
	return c
}

// serve does what an event loop does for one connection, with the bytes in pieces of at most cut: a handshake, then what comes
// is sent back, until the peer ends. Every record goes by a Freeze and a Thaw.
func serve(conn net.Conn, base *tls.Config, cut int) (state tls.ConnectionState, err error) {
	defer conn.Close()
	s := Server(base)
	defer s.Close()
	var in, out []byte
	buf := make([]byte, 64<<10)
	for {
		var n int
		var st State
		out, n, st, err = s.Step(out[:0], in)
		in = in[n:]
		if len(out) > 0 {
			if _, werr := conn.Write(out); werr != nil && err == nil {
				return state, werr
			}
		}
		if err != nil {
			return state, err
		}
		if st == Works {
			done := make(chan struct{})
			job := s.Job()
			go func() { job(); close(done) }()
			<-done
			continue
		}
		if st == Done {
			break
		}
		k, rerr := conn.Read(buf[:cut])
		if in = append(in, buf[:k]...); rerr != nil {
			return state, rerr
		}
	}
	c, state, err := s.Result(new(record.Room))
	if err != nil {
		return state, err
	}
	to := make([]byte, 20<<10)
	for {
		raw, n, used, err := c.Open(nil, to, in)
		in = in[used:]
		if n > 0 {
			raw = c.Seal(raw, to[:n/2], to[n/2:n])
		}
		if errors.Is(err, io.EOF) {
			raw = c.End(raw)
		}
		if len(raw) > 0 {
			if _, err := conn.Write(raw); err != nil {
				return state, err
			}
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return state, err
		}
		b := c.Freeze(nil)
		c.Wipe()
		var rest []byte
		if c, rest, err = record.Thaw(b, new(record.Room)); err != nil || len(rest) > 0 {
			return state, fmt.Errorf("thaw: %d bytes left, %v", len(rest), err)
		}
		if n > 0 {
			continue
		}
		k, rerr := conn.Read(buf[:cut])
		if in = append(in, buf[:k]...); rerr != nil {
			return state, rerr
		}
	}
}

// TestSuites: every version and suite, with keys of two kinds, fresh and resumed, with bytes in whole and one by one.
func TestSuites(t *testing.T) {
	for _, cert := range []tls.Certificate{ecCertificate(t), rsaCertificate(t)} {
		_, ec := cert.PrivateKey.(*ecdsa.PrivateKey)
		for _, tt := range []struct {
			version uint16
			suites  []uint16
		}{
			{tls.VersionTLS13, nil},
			{tls.VersionTLS12, []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}},
			{tls.VersionTLS12, []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384}},
			{tls.VersionTLS12, []uint16{tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256}},
		} {
			for _, cut := range []int{64 << 10, 1} {
				t.Run(fmt.Sprintf("ec=%v/%x/%x/%d", ec, tt.version, tt.suites, cut), func(t *testing.T) {
					server := &tls.Config{
						GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &cert, nil },
						CipherSuites:   record.Suites(), MinVersion: tls.VersionTLS12,
					}
					server.SetSessionTicketKeys([][32]byte{{1}})
					client := &tls.Config{
						InsecureSkipVerify: true, ServerName: "a.example", MaxVersion: tt.version, CipherSuites: tt.suites,
						ClientSessionCache: tls.NewLRUClientSessionCache(1),
					}
					for round := range 4 {
						state := talk(t, server, client, cut)
						if state.DidResume != (round > 0) || state.Version != tt.version {
							t.Errorf("round %d: version %x, resumed %v", round, state.Version, state.DidResume)
						}
					}
				})
			}
		}
	}
}

// TestTicketRefused: a ticket of ours that can be read and is not resumed leaves nothing in the ticket that follows: each
// session has its own master secret.
func TestTicketRefused(t *testing.T) {
	cert := ecCertificate(t)
	server := &tls.Config{Certificates: []tls.Certificate{cert}, CipherSuites: record.Suites()}
	server.SetSessionTicketKeys([][32]byte{{1}})
	strict := server.Clone()
	strict.ClientAuth = tls.RequireAnyClientCert
	client := &tls.Config{
		InsecureSkipVerify: true, ServerName: "a.example", MaxVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert},
		ClientSessionCache: tls.NewLRUClientSessionCache(1),
	}
	for i, tt := range []struct {
		conf    *tls.Config
		resumed bool
	}{{server, false}, {strict, false}, {strict, true}, {strict, true}} {
		if state := talk(t, tt.conf, client, 64<<10); state.DidResume != tt.resumed {
			t.Errorf("connection %d: resumed is %v", i, state.DidResume)
		}
	}
}

// talk has a client of crypto/tls say much and little, and want it back.
func talk(t *testing.T, server, client *tls.Config, cut int) tls.ConnectionState {
	t.Helper()
	a, b := pipe(t)
	type result struct {
		state tls.ConnectionState
		err   error
	}
	served := make(chan result, 1)
	go func() {
		state, err := serve(a, server, cut)
		served <- result{state, err}
	}()
	c := tls.Client(b, client)
	sizes := []int{1, 100, 16 << 10, 16<<10 + 1, 100_000}
	if cut == 1 {
		sizes = []int{1, 3000}
	}
	for _, n := range sizes {
		sent := make([]byte, n)
		_, _ = rand.Read(sent)
		go func() { _, _ = c.Write(sent) }()
		got := make([]byte, n)
		if _, err := io.ReadFull(c, got); err != nil {
			r := <-served
			t.Fatalf("of %d bytes: %v; the server: %v", n, err, r.err)
		}
		if !bytes.Equal(got, sent) {
			t.Fatalf("%d bytes came back as others", n)
		}
	}
	_ = c.CloseWrite()
	if rest, err := io.ReadAll(c); len(rest) > 0 || err != nil {
		t.Errorf("the end: %d bytes, %v", len(rest), err)
	}
	r := <-served
	if r.err != nil {
		t.Error(r.err)
	}
	return r.state
}

func pipe(t *testing.T) (a, b net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if b, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if a, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []net.Conn{a, b} {
		_ = c.SetDeadline(time.Now().Add(30 * time.Second))
		t.Cleanup(func() { c.Close() })
	}
	return a, b
}

// TestGivenUp: a handshake that is closed in the middle leaves no goroutine behind.
func TestGivenUp(t *testing.T) {
	cert := rsaCertificate(t)
	base := &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &cert, nil }}
	var hello bytes.Buffer
	c := tls.Client(discard{&hello}, &tls.Config{InsecureSkipVerify: true})
	_ = c.Handshake()
	before := runtime.NumGoroutine()
	for range 100 {
		s := Server(base)
		if _, _, st, err := s.Step(nil, nil); st != Waits || err != nil {
			t.Fatal(st, err)
		}
		s.Close()
		s = Server(base)
		if _, n, st, err := s.Step(nil, hello.Bytes()); st != Works || n != hello.Len() || err != nil {
			t.Fatal(n, st, err)
		}
		s.Close()
		Server(base).Close()
	}
	if after := runtime.NumGoroutine(); after > before {
		t.Errorf("%d goroutines, %d before", after, before)
	}
}

// TestGivenUpWhileSigning: a handshake may be given up, and freed, while its signature is made on another goroutine.
func TestGivenUpWhileSigning(t *testing.T) {
	cert := rsaCertificate(t)
	began, goOn := make(chan struct{}), make(chan struct{})
	cert.PrivateKey = heldRSA{cert.PrivateKey.(slowRSA), began, goOn}
	base := &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &cert, nil }}
	var hello bytes.Buffer
	_ = tls.Client(discard{&hello}, &tls.Config{InsecureSkipVerify: true}).Handshake()
	for range 20 {
		s := Server(base)
		if _, _, st, err := s.Step(nil, hello.Bytes()); st != Works || err != nil {
			t.Fatal(st, err)
		}
		done := make(chan struct{})
		go func(job func()) { job(); close(done) }(s.Job())
		<-began
		went := make(chan struct{})
		go func() { goOn <- struct{}{}; close(went) }()
		s.Close()
		<-done
		<-went
	}
}

// heldRSA tells when it begins to sign, and waits for leave to go on.
type heldRSA struct {
	slowRSA
	began, goOn chan struct{}
}

func (k heldRSA) Sign(r io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	k.began <- struct{}{}
	<-k.goOn
	return k.slowRSA.Sign(r, digest, opts)
}

type discard struct{ *bytes.Buffer }

func (discard) Read([]byte) (int, error)         { return 0, io.EOF }
func (discard) Close() error                     { return nil }
func (discard) LocalAddr() net.Addr              { return nil }
func (discard) RemoteAddr() net.Addr             { return nil }
func (discard) SetDeadline(time.Time) error      { return nil }
func (discard) SetReadDeadline(time.Time) error  { return nil }
func (discard) SetWriteDeadline(time.Time) error { return nil }

// TestGarbage: what is no handshake fails, with an alert where there can be one.
func TestGarbage(t *testing.T) {
	cert := ecCertificate(t)
	base := &tls.Config{Certificates: []tls.Certificate{cert}}
	for _, in := range []string{
		"\x16\x03\x01\xff\xff", "\x17\x03\x03\x00\x01x", "\x16\x03\x01\x00\x04\x01\x00\x00\x00", "\x15\x03\x01\x00\x02\x02\x28",
	} {
		s := Server(base)
		out, _, st, err := s.Step(nil, []byte(in))
		if st != Failed || err == nil {
			t.Errorf("%q: %v, %v", in, st, err)
		}
		if in[0] == 0x16 && (len(out) != 7 || out[0] != 21) {
			t.Errorf("%q: the alert is %q", in, out)
		}
		s.Close()
	}
}
