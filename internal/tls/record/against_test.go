package record_test

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
	"sync"
	"testing"
	"time"

	"reuseportd/internal/tls/handshake"
	"reuseportd/internal/tls/record"
)

// stream is one direction of a connection in memory.
type stream struct {
	mu   sync.Mutex
	more sync.Cond
	b    bytes.Buffer
	over bool
}

func newStream() *stream {
	s := new(stream)
	s.more.L = &s.mu
	return s
}

func (s *stream) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.more.Broadcast()
	return s.b.Write(p)
}

func (s *stream) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.b.Len() == 0 && !s.over {
		s.more.Wait()
	}
	return s.b.Read(p)
}

func (s *stream) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	s.more.Broadcast()
}

// take returns what was written and not read.
func (s *stream) take() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return bytes.Clone(s.b.Next(s.b.Len()))
}

// wire is the client's end of a connection in memory.
type wire struct{ in, out *stream }

func (w wire) Read(p []byte) (int, error)  { return w.in.Read(p) }
func (w wire) Write(p []byte) (int, error) { return w.out.Write(p) }
func (wire) Close() error                  { return nil }
func (wire) LocalAddr() net.Addr           { return nil }
func (wire) RemoteAddr() net.Addr          { return nil }
func (wire) SetDeadline(time.Time) error   { return nil }

func (wire) SetReadDeadline(time.Time) error  { return nil }
func (wire) SetWriteDeadline(time.Time) error { return nil }

// talk is a client of crypto/tls and our record layer, behind a handshake.
type talk struct {
	t      *testing.T
	wire   wire
	client *tls.Conn
	server *record.Conn
	in     []byte // for our side, not opened yet
}

var serverConfig = sync.OnceValue(func() *tls.Config {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"a.example"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		panic(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, CipherSuites: record.Suites()}
})

func newTalk(t *testing.T, version, suite uint16) *talk {
	t.Helper()
	k := &talk{t: t, wire: wire{newStream(), newStream()}}
	t.Cleanup(k.wire.in.end)
	t.Cleanup(k.wire.out.end)
	conf := &tls.Config{InsecureSkipVerify: true, MaxVersion: version, CipherSuites: []uint16{suite}}
	k.client = tls.Client(k.wire, conf)
	done := make(chan error, 1)
	go func() { done <- k.client.Handshake() }()
	s := handshake.Server(serverConfig())
	defer s.Close()
	for {
		out, n, state, err := s.Step(nil, k.in)
		k.in = k.in[n:]
		_, _ = k.wire.in.Write(out)
		if err != nil {
			t.Fatal(err)
		}
		if state == handshake.Done {
			break
		}
		buf := make([]byte, 1<<16)
		n, _ = k.wire.out.Read(buf)
		k.in = append(k.in, buf[:n]...)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	var err error
	if k.server, _, err = s.Result(new(record.Room)); err != nil {
		t.Fatal(err)
	}
	return k
}

// opened returns what our side opens of all that the client has sent. What it says goes to the client.
func (k *talk) opened(spoil func([]byte)) (got []byte, err error) {
	in := append(k.in, k.wire.out.take()...)
	spoil(in)
	to := make([]byte, 20<<10)
	for {
		raw, n, used, err := k.server.Open(nil, to, in)
		got = append(got, to[:n]...)
		in = in[used:]
		_, _ = k.wire.in.Write(raw)
		if err != nil || used == 0 {
			k.in = bytes.Clone(in)
			return got, err
		}
	}
}

// FuzzAgainstCryptoTLS has crypto/tls and our record layer seal what the other opens, with key updates, moves to another
// process, and bytes that somebody changes on their way.
func FuzzAgainstCryptoTLS(f *testing.F) {
	f.Add(uint8(0), []byte{0, 10, 1, 10, 2, 0, 0, 200, 1, 255, 3, 0, 1, 3, 4, 0, 0, 9, 5, 0})
	f.Add(uint8(1), []byte{2, 0, 2, 1, 2, 0, 1, 1, 0, 1, 3, 3, 5, 1})
	f.Add(uint8(2), []byte{0, 255, 1, 255, 3, 0, 0, 1, 6, 30})
	f.Add(uint8(0), []byte{1, 200, 2, 1, 0, 5, 6, 7})
	f.Fuzz(func(t *testing.T, which uint8, program []byte) {
		suites := []uint16{
			tls.TLS_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
		}
		suite := suites[int(which)%len(suites)]
		version := uint16(tls.VersionTLS12)
		if suite>>8 == 0x13 {
			version = tls.VersionTLS13
		}
		k := newTalk(t, version, suite)
		text := make([]byte, 100<<10)
		_, _ = rand.Read(text)
		updates := 0
		for len(program) > 1 && len(program) < 100 {
			op, arg := program[0], int(program[1])
			program = program[2:]
			n := arg * arg * (len(text) - 1) / (255 * 255) // small ones are likelier
			switch op % 7 {
			case 0: // the client sends
				if _, err := k.client.Write(text[:n]); err != nil {
					t.Fatal(err)
				}
				if got, err := k.opened(func([]byte) {}); err != nil || !bytes.Equal(got, text[:n]) {
					t.Fatalf("opened are %d bytes of %d: %v", len(got), n, err)
				}
			case 1: // our side sends
				_, _ = k.wire.in.Write(k.server.Seal(nil, text[:n/3], text[n/3:n]))
				got := make([]byte, n)
				if _, err := io.ReadFull(k.client, got); err != nil || !bytes.Equal(got, text[:n]) {
					t.Fatalf("of %d bytes: %v", n, err)
				}
			case 2: // our side changes its key, and asks the client to
				if updates++; version == tls.VersionTLS13 && updates < 20 {
					_, _ = k.wire.in.Write(k.server.Update(nil, arg%2 == 1))
					_, _ = k.wire.in.Write(k.server.Seal(nil, text[:1], nil))
					if _, err := io.ReadFull(k.client, make([]byte, 1)); err != nil {
						t.Fatal(err)
					}
				}
			case 3: // our side moves to another process
				b := k.server.Freeze(nil)
				k.server.Wipe()
				c, rest, err := record.Thaw(b, new(record.Room))
				if err != nil || len(rest) > 0 {
					t.Fatal(len(rest), err)
				}
				k.server = c
			case 4:
				k.server.Cool()
			case 5: // the ends
				_, _ = k.wire.in.Write(k.server.End(nil))
				if _, err := k.client.Read(make([]byte, 1)); err != io.EOF {
					t.Fatal(err)
				}
				_ = k.client.CloseWrite()
				if got, err := k.opened(func([]byte) {}); len(got) > 0 || err != io.EOF {
					t.Fatalf("%d bytes, %v", len(got), err)
				}
				return
			case 6: // somebody changes a byte
				if _, err := k.client.Write(text[:n+1]); err != nil {
					t.Fatal(err)
				}
				got, err := k.opened(func(b []byte) { b[arg%len(b)] ^= byte(arg) | 1 })
				a := new(record.Alert)
				if !bytes.HasPrefix(text[:n+1], got) || len(got) > n || err != nil && !errors.As(err, &a) {
					t.Fatalf("opened are %d bytes: %v", len(got), err)
				}
				return
			}
		}
	})
}
