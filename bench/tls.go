package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"reuseportd/internal/rig"
)

// doorTLS is HTTPS with a certificate of ECDSA P-256: the same few bytes for any request, but files below /static/.
const doorTLS door = "tls"

// pairOf returns the paths of the certificate and the key that lie beside a site.
func pairOf(site string) (cert, key string) {
	dir := filepath.Dir(site)
	return filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
}

// writePair makes them.
func writePair(site string) error {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return err
	}
	cert, key := pairOf(site)
	if err := os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644); err != nil {
		return err
	}
	return os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600)
}

// nginxTLS is as ngx_http_ssl_module has it (nginx.org/en/docs), for its workers in shared memory.
const nginxTLS = `  server {
    listen %[1]s ssl reuseport backlog=4096;
    ssl_certificate %[2]s; ssl_certificate_key %[3]s;
    ssl_protocols TLSv1.2 TLSv1.3; ssl_session_cache shared:ssl:10m;
    location / { return 200 "hello\n"; }
    location /static/ { alias %[4]s/; }
  }
`

// reuseportdTLS is a further listener.
const reuseportdTLS = `  - name: tls
    address: %[1]s
    tls: {certificates: [{cert: %[2]s, key: %[3]s}]}
    http: {routes: [{path: /, respond: {body: "hello\n"}}, {path: /static/, files: {root: %[4]s, cache: 1s}}]}
`

// encrypted is small requests and a file over TLS. wrk resumes a session where it connects again, if it can.
func encrypted(ctx context.Context, _ *bench, c *contender, d time.Duration) ([]reading, error) {
	var all []reading
	for _, one := range []struct {
		what, path string
		wrk        rig.Wrk
	}{
		{"on a kept connection", "/", rig.Wrk{Connections: connections}},
		{"on a fresh connection", "/", churning},
		{"a file of 1 MiB", "/static/1m", rig.Wrk{Connections: connections}},
	} {
		got, err := cost(c, d, one.what, func() (int, error) { return one.wrk.Run(ctx, "https://"+c.doors[doorTLS]+one.path, d) })
		if err != nil {
			return nil, fmt.Errorf("%s: %w", one.what, err)
		}
		all = append(all, got...)
	}
	return all, nil
}
