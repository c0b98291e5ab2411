package handshake

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"testing"
	"time"
)

// chainOf makes a chain of authorities with names, the last of which has signed itself; the first is a client's.
func chainOf(t *testing.T, names ...string) (*tls.Certificate, *x509.Certificate) {
	t.Helper()
	c := new(tls.Certificate)
	var above *x509.Certificate
	var aboveKey *ecdsa.PrivateKey
	for i := len(names) - 1; i >= 0; i-- {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		one := &x509.Certificate{
			SerialNumber: big.NewInt(int64(i + 1)), Subject: pkix.Name{CommonName: names[i]}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		}
		if above == nil {
			above, aboveKey = one, key
		}
		der, err := x509.CreateCertificate(rand.Reader, one, above, key.Public(), aboveKey)
		if err != nil {
			t.Fatal(err)
		}
		if above, err = x509.ParseCertificate(der); err != nil {
			t.Fatal(err)
		}
		aboveKey = key
		c.Certificate = append([][]byte{der}, c.Certificate...)
		c.PrivateKey = key
	}
	root, err := x509.ParseCertificate(c.Certificate[len(c.Certificate)-1])
	if err != nil {
		t.Fatal(err)
	}
	return c, root
}

// TestChain: a client's chain that could take long to verify is refused before anybody tries; all others are crypto/tls' to judge.
func TestChain(t *testing.T) {
	own := ecCertificate(t)
	for name, tt := range map[string]struct {
		names []string
		want  error
	}{
		"one":          {[]string{"a"}, nil},
		"as many":      {[]string{"a", "b", "c", "d", "e", "f"}, nil},
		"too many":     {[]string{"a", "b", "c", "d", "e", "f", "g"}, errChain},
		"a name twice": {[]string{"a", "b", "b"}, errTwice},
		"a long chain": {make([]string, 60), errTwice},
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			for _, cut := range []int{64 << 10, 1} {
				t.Run(fmt.Sprint(name, tls.VersionName(version), cut), func(t *testing.T) {
					cert, root := chainOf(t, tt.names...)
					pool := x509.NewCertPool()
					pool.AddCert(root)
					server := &tls.Config{Certificates: []tls.Certificate{own}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool}
					server.SetSessionTicketKeys([][32]byte{{1}})
					client := &tls.Config{
						InsecureSkipVerify: true, ServerName: "a.example", MaxVersion: version, ClientSessionCache: tls.NewLRUClientSessionCache(1),
						GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil },
					}
					if tt.want == nil {
						for round := range 2 {
							if state := talk(t, server, client, cut); len(state.VerifiedChains) != 1 || state.DidResume != (round > 0) {
								t.Errorf("round %d: %d chains, resumed %v", round, len(state.VerifiedChains), state.DidResume)
							}
						}
						return
					}
					a, b := pipe(t)
					go func() {
						c := tls.Client(b, client)
						_ = c.Handshake()
						_, _ = c.Read(make([]byte, 1))
						b.Close()
					}()
					if _, err := serve(a, server, cut); !errors.Is(err, tt.want) {
						t.Errorf("the server says %v, want %v", err, tt.want)
					}
				})
			}
		}
	}
}
