package certs

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"
)

var now = time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)

// issue makes a certificate for names, signed by another or by itself.
func issue(t *testing.T, key crypto.Signer, by *x509.Certificate, byKey crypto.Signer, change func(*x509.Certificate), names ...string) *x509.Certificate {
	t.Helper()
	c := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), DNSNames: names, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		IsCA: by == nil, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	if change != nil {
		change(c)
	}
	if by == nil {
		by, byKey = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, by, key.Public(), byKey)
	if err != nil {
		t.Fatal(err)
	}
	c, err = x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func ec(t *testing.T) crypto.Signer {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func chainOf(all ...*x509.Certificate) (b []byte) {
	for _, c := range all {
		b = append(b, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return b
}

func keyOf(t *testing.T, k crypto.Signer) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func TestParse(t *testing.T) {
	root, mid, leaf := ec(t), ec(t), ec(t)
	ca := issue(t, root, nil, nil, nil, "root")
	between := issue(t, mid, ca, root, func(c *x509.Certificate) { c.IsCA = true }, "mid")
	own := issue(t, leaf, between, mid, nil, "a.example")
	for name, tt := range map[string]struct{ chain, key []byte }{
		"alone":           {chainOf(own), keyOf(t, leaf)},
		"with its chain":  {chainOf(own, between, ca), keyOf(t, leaf)},
		"in one file":     {append(keyOf(t, leaf), chainOf(own, between)...), append(chainOf(own, between), keyOf(t, leaf)...)},
		"with text about": {append([]byte("subject: a\n"), chainOf(own)...), append([]byte("a key\n"), keyOf(t, leaf)...)},
	} {
		c, err := Parse(tt.chain, tt.key, now)
		if err != nil || c.Leaf.DNSNames[0] != "a.example" || !bytes.Equal(c.Certificate[0], own.Raw) {
			t.Errorf("%s: %v", name, err)
		}
	}
	old := issue(t, leaf, between, mid, func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Minute) }, "a.example")
	young := issue(t, leaf, between, mid, func(c *x509.Certificate) { c.NotBefore = now.Add(time.Minute) }, "a.example")
	encrypted := pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte("x")})
	legacy := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Headers: map[string]string{"DEK-Info": "AES"}, Bytes: []byte("x")})
	for name, tt := range map[string]struct {
		chain, key []byte
		want       string
	}{
		"nothing":          {nil, keyOf(t, leaf), "no certificate in PEM"},
		"no key":           {chainOf(own), nil, "no key in PEM"},
		"mixed up":         {keyOf(t, leaf), chainOf(own), "a key in place of a certificate: are the two files mixed up?"},
		"two certificates": {chainOf(own), chainOf(own), "a certificate in place of a key: are the two files mixed up?"},
		"another key":      {chainOf(own), keyOf(t, mid), "the key does not belong to the certificate of a.example"},
		"out of order":     {chainOf(between, own), keyOf(t, mid), "certificate 2, of a.example, has not signed the one before it, of mid"},
		"a gap":            {chainOf(own, ca), keyOf(t, leaf), "certificate 2, of root, has not signed the one before it, of a.example"},
		"expired":          {chainOf(old), keyOf(t, leaf), "the certificate of a.example has expired on 2026-11-30 23:59 UTC"},
		"not valid yet":    {chainOf(young), keyOf(t, leaf), "is not valid before 2026-12-01 00:01 UTC"},
		"encrypted":        {chainOf(own), encrypted, "the key is encrypted"},
		"encrypted before": {chainOf(own), legacy, "the key is encrypted"},
		"no DER":           {pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")}), keyOf(t, leaf), "certificate 1: "},
		"too many":         {bytes.Repeat(chainOf(ca), 17), keyOf(t, root), "more than 16 certificates"},
	} {
		c, err := Parse(tt.chain, tt.key, now)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
		var e *Expired
		if (c != nil) != errors.As(err, &e) {
			t.Errorf("%s: a certificate comes with %v", name, err)
		}
	}
}

func TestKeys(t *testing.T) {
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for name, k := range map[string]crypto.Signer{"ed25519": edKey, "rsa": rsaKey, "ecdsa": ec(t)} {
		c, err := Parse(chainOf(issue(t, k, nil, nil, nil, "a")), keyOf(t, k), now)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		s, slow := c.PrivateKey.(interface{ Slow() bool })
		if (slow && s.Slow()) != (name == "rsa") {
			t.Errorf("%s: signs beside the loop: %v", name, slow)
		}
	}
	pkcs1 := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(rsaKey)})
	if _, err := Parse(chainOf(issue(t, rsaKey, nil, nil, nil, "a")), pkcs1, now); err != nil {
		t.Errorf("PKCS #1: %v", err)
	}
}

func TestSet(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	made := map[string]*tls.Certificate{}
	add := func(name string, key crypto.Signer, change func(*x509.Certificate), names ...string) *tls.Certificate {
		c, err := Parse(chainOf(issue(t, key, nil, nil, change, names...)), keyOf(t, key), now)
		if err != nil {
			t.Fatal(err)
		}
		made[name] = c
		return c
	}
	s := NewSet([]*tls.Certificate{
		add("first", ec(t), nil, "first.example"),
		add("wild", ec(t), nil, "*.b.example", "b.example"),
		add("exact", ec(t), nil, "X.b.example"),
		add("rsa", rsaKey, nil, "both.example"),
		add("ec", ec(t), nil, "both.example"),
		add("common", ec(t), func(c *x509.Certificate) { c.Subject = pkix.Name{CommonName: "common.example"} }),
	})
	both := []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256, tls.PSSWithSHA256}
	for _, tt := range []struct {
		name, want string
		schemes    []tls.SignatureScheme
	}{
		{"first.example", "first", both},
		{"", "first", both},
		{"other.example", "first", both},
		{"x.b.example", "exact", both},
		{"X.B.Example", "exact", both},
		{"y.b.example", "wild", both},
		{"b.example", "wild", both},
		{"z.y.b.example", "first", both},
		{"common.example", "common", both},
		{"both.example", "rsa", both},
		{"both.example", "ec", both[:1]},
		{"both.example", "rsa", both[1:]},
	} {
		got, err := s.Get(&tls.ClientHelloInfo{
			ServerName: tt.name, SignatureSchemes: tt.schemes, SupportedVersions: []uint16{tls.VersionTLS13}, SupportedCurves: []tls.CurveID{tls.CurveP256},
		})
		if err != nil || got != made[tt.want] {
			t.Errorf("%q: not %s, %v", tt.name, tt.want, err)
		}
	}
	for _, tt := range []struct {
		asked, host string
		want        bool
	}{
		{"first.example", "first.example", true},
		{"", "anything", true},
		{"y.b.example", "b.example", true},
		{"y.b.example", "z.b.example", true},
		{"y.b.example", "x.b.example", false},
		{"y.b.example", "first.example", false},
		{"first.example", "unknown.example", true},
		{"y.b.example", "unknown.example", false},
		{"unknown.example", "first.example", true},
	} {
		if got := s.Covers(tt.asked, tt.host); got != tt.want {
			t.Errorf("asked for %q, host %q: %v", tt.asked, tt.host, got)
		}
	}
}
