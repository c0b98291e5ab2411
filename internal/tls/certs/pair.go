// Package certs reads certificates with their keys, says what is wrong with them, and chooses the one for a client.
//
// It owns the rules, but no file and no socket: it is given bytes. It must never accept a key that doesn't fit
// its certificate.
package certs

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"
)

// Expired says that a certificate has expired.
type Expired struct {
	Subject string
	At      time.Time
}

func (e *Expired) Error() string {
	return fmt.Sprintf("the certificate of %s has expired on %s", e.Subject, e.At.UTC().Format("2006-01-02 15:04 MST"))
}

// Parse makes a certificate of a chain in PEM, leaf first, and its key. If the error is an Expired it returns the
// certificate as well.
func Parse(chain, key []byte, now time.Time) (*tls.Certificate, error) {
	all, err := parseChain(chain)
	if err != nil {
		return nil, err
	}
	private, err := parseKey(key)
	if err != nil {
		return nil, err
	}
	leaf := all[0]
	if err := fits(leaf, private); err != nil {
		return nil, err
	}
	for i, c := range all[1:] {
		if err := all[i].CheckSignatureFrom(c); err != nil {
			return nil, fmt.Errorf("certificate %d, of %s, has not signed the one before it, of %s: the order is the server's own first, then who signed it, and so on",
				i+2, name(c), name(all[i]))
		}
	}
	c := &tls.Certificate{PrivateKey: signerOf(private), Leaf: leaf}
	for _, one := range all {
		c.Certificate = append(c.Certificate, one.Raw)
	}
	if now.Before(leaf.NotBefore) {
		return nil, fmt.Errorf("the certificate of %s is not valid before %s", name(leaf), leaf.NotBefore.UTC().Format("2006-01-02 15:04 MST"))
	}
	if now.After(leaf.NotAfter) {
		return c, &Expired{name(leaf), leaf.NotAfter}
	}
	return c, nil
}

// maxChain bounds the certificates in a file.
const maxChain = 16

func parseChain(data []byte) (all []*x509.Certificate, err error) {
	for rest := data; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		switch {
		case block.Type != "CERTIFICATE":
			continue // a key in the same file is skipped: it is read from the key's file
		case len(all) == maxChain:
			return nil, fmt.Errorf("there are more than %d certificates", maxChain)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(all)+1, err)
		}
		all = append(all, c)
	}
	if len(all) == 0 {
		if bytes.Contains(data, []byte("PRIVATE KEY")) {
			return nil, errors.New("there is a key in place of a certificate: are the two files mixed up?")
		}
		return nil, errors.New("there is no certificate in PEM: it begins with -----BEGIN CERTIFICATE-----")
	}
	return all, nil
}

func parseKey(data []byte) (crypto.PrivateKey, error) {
	for rest := data; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		switch block.Type {
		case "ENCRYPTED PRIVATE KEY":
			return nil, errEncrypted
		case "PRIVATE KEY":
			return x509.ParsePKCS8PrivateKey(block.Bytes)
		case "RSA PRIVATE KEY", "EC PRIVATE KEY":
			if block.Headers["DEK-Info"] != "" {
				return nil, errEncrypted
			}
			if block.Type == "RSA PRIVATE KEY" {
				return x509.ParsePKCS1PrivateKey(block.Bytes)
			}
			return x509.ParseECPrivateKey(block.Bytes)
		}
	}
	if bytes.Contains(data, []byte("BEGIN CERTIFICATE")) {
		return nil, errors.New("there is a certificate in place of a key: are the two files mixed up?")
	}
	return nil, errors.New("there is no key in PEM: it begins with -----BEGIN PRIVATE KEY-----")
}

var errEncrypted = errors.New("the key is encrypted, and nobody is there to ask for its password: write it without one, as by openssl pkey")

// fits returns an error unless a key belongs to a certificate.
func fits(leaf *x509.Certificate, private crypto.PrivateKey) error {
	s, ok := private.(crypto.Signer)
	if !ok {
		return fmt.Errorf("keys of the kind %T are not used for TLS", private)
	}
	switch private.(type) {
	case *rsa.PrivateKey, *ecdsa.PrivateKey, ed25519.PrivateKey:
	default:
		return fmt.Errorf("keys of the kind %T are not used for TLS", private)
	}
	public, ok := leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(s.Public()) {
		return fmt.Errorf("the key does not belong to the certificate of %s", name(leaf))
	}
	return nil
}

// name returns a certificate's name for messages.
func name(c *x509.Certificate) string {
	switch {
	case len(c.DNSNames) > 0:
		return c.DNSNames[0]
	case len(c.IPAddresses) > 0:
		return c.IPAddresses[0].String()
	case c.Subject.CommonName != "":
		return c.Subject.CommonName
	}
	return "number " + c.SerialNumber.String()
}

// slowKey is a key whose signatures take about a millisecond, so that they are made outside of
// the event loop.
type slowKey struct{ *rsa.PrivateKey }

// Slow tells the package handshake that the key is slow.
func (slowKey) Slow() bool { return true }

func signerOf(private crypto.PrivateKey) crypto.PrivateKey {
	if k, ok := private.(*rsa.PrivateKey); ok {
		return slowKey{k}
	}
	return private
}
