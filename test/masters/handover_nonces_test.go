package masters

import (
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"reuseportd/test/harness"
	"reuseportd/test/kit"
)

// TestNoncesInHandover: whoever is killed at whichever step of a handover, no record number is used twice with a key. Records of TLS
// 1.2 with GCM have theirs in the clear (RFC 5288 section 3), so what is on the wire shows; in TLS 1.3 the client would not open a
// record that is out of its order.
func TestNoncesInHandover(t *testing.T) {
	for _, p := range handoverPoints {
		for _, killed := range []string{"nobody", "giver", "taker", "master", "giver and taker"} {
			t.Run(p.point+", "+killed+" killed", func(t *testing.T) {
				var taps []*tap
				h := beginHandoverOf(t, "reload", p.point, func(c harness.Config) (harness.Config, func(i int) *kit.Client) {
					ca := kit.NewAuthority(t)
					chain, key := ca.Sign(time.Now().Add(time.Hour), "a.example")
					dir := harness.Dir(t)
					cert, secret := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
					kit.Must(t, os.WriteFile(cert, chain, 0o644))
					kit.Must(t, os.WriteFile(secret, key, 0o600))
					for i := range c.Listeners {
						c.Listeners[i].Service = fmt.Sprintf("tls: {certificates: [{cert: %s, key: %s}]}\n    %s", cert, secret, c.Listeners[i].Service)
					}
					return c, func(i int) *kit.Client {
						raw, err := net.DialTimeout("tcp", c.Address([]string{"web", "echo"}[i%2]), harness.Within)
						kit.Must(t, err)
						t.Cleanup(func() { raw.Close() })
						w := &tap{Conn: raw, version: []uint16{tls.VersionTLS12, tls.VersionTLS13}[i/2%2]}
						taps = append(taps, w)
						conn := tls.Client(w, &tls.Config{
							ServerName: "a.example", RootCAs: ca.Pool(), MaxVersion: w.version,
							CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256},
						})
						kit.Must(t, conn.Handshake())
						return kit.NewClient(t, conn)
					}
				})
				if killed == "nobody" {
					h.s.Disarm(p.point)
				} else {
					h.kill(killed)
				}
				alive := 0
				for range 3 {
					alive = 0
					for i, conn := range h.conns {
						if conn.Prove(i) == nil {
							alive++
						}
					}
				}
				if alive == 0 && killed == "nobody" {
					t.Error("all connections are lost")
				}
				records := 0
				for i, w := range taps {
					n, twice := w.numbers()
					if records += n; twice > 0 {
						t.Errorf("connection %d: %d of %d records have a number that another one had", i, twice, n)
					}
				}
				if records < len(taps)/2 { // each of TLS 1.2 was answered before the change
					t.Errorf("only %d records were seen", records)
				}
				for _, conn := range h.conns {
					conn.Close()
				}
				h.s.WaitStatus("all connections to be counted as closed", allClosed)
				h.s.Stop()
			})
		}
	}
}

// tap keeps what a server sends.
type tap struct {
	net.Conn
	version uint16
	mu      sync.Mutex
	got     []byte
}

func (w *tap) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	w.mu.Lock()
	w.got = append(w.got, p[:n]...)
	w.mu.Unlock()
	return n, err
}

// numbers counts the records whose numbers are in the clear, and those of them whose numbers have been there before.
func (w *tap) numbers() (n, twice int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	seen := make(map[string]bool)
	const header, data = 5, 23
	for b := w.got; len(b) >= header; {
		size := header + int(b[3])<<8 + int(b[4])
		if len(b) < size {
			break
		}
		if w.version == tls.VersionTLS12 && b[0] == data {
			number := string(b[header : header+8])
			if n++; seen[number] {
				twice++
			}
			seen[number] = true
		}
		b = b[size:]
	}
	return n, twice
}
