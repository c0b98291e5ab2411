package certs

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
)

// Authorities sign the certificates of clients.
type Authorities struct {
	Pool   *x509.CertPool
	hashes map[string]bool
}

// ParseAuthorities reads certificates in PEM. What else is in the file, or can't be read, is left out; there must be one.
func ParseAuthorities(data []byte) (*Authorities, error) {
	a := &Authorities{x509.NewCertPool(), make(map[string]bool)}
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		if c, err := x509.ParseCertificate(block.Bytes); err == nil {
			a.Pool.AddCert(c)
			a.hashes[Hash(c)] = true
		}
	}
	if len(a.hashes) == 0 {
		return nil, errors.New("there is no certificate in PEM: it begins with -----BEGIN CERTIFICATE-----")
	}
	return a, nil
}

// HashLen is how long a Hash is, in bytes.
const HashLen = sha256.Size

// Hash tells a certificate from all others.
func Hash(c *x509.Certificate) string {
	h := sha256.Sum256(c.Raw)
	return string(h[:])
}

// Has reports whether a certificate with a hash is among them.
func (a *Authorities) Has(hash string) bool { return a.hashes[hash] }
