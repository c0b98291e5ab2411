package record

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"errors"
	"hash"

	"golang.org/x/crypto/chacha20poly1305"
)

// suite is what the record layer needs to know about a cipher suite.
type suite struct {
	key  int // bytes
	salt int // bytes of the nonce that come from the keys: 12, or 4 if each record contains the others (RFC 5288 section 3)
	hash func() hash.Hash
	aead func(key []byte) (cipher.AEAD, error)
}

// suites are those that this server speaks: AEAD, with forward secrecy.
var suites = map[uint16]*suite{
	tls.TLS_AES_128_GCM_SHA256:       {16, 12, sha256.New, gcm},
	tls.TLS_AES_256_GCM_SHA384:       {32, 12, sha512.New384, gcm},
	tls.TLS_CHACHA20_POLY1305_SHA256: {32, 12, sha256.New, chacha20poly1305.New},

	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256:       {16, 4, sha256.New, gcm},
	tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256:         {16, 4, sha256.New, gcm},
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384:       {32, 4, sha512.New384, gcm},
	tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384:         {32, 4, sha512.New384, gcm},
	tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256: {32, 12, sha256.New, chacha20poly1305.New},
	tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256:   {32, 12, sha256.New, chacha20poly1305.New},
}

// Suites returns the suites of TLS 1.2, for tls.Config: those of 1.3 can't be chosen there.
func Suites() []uint16 {
	return []uint16{
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
		tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
	}
}

// find returns a suite, if it belongs to the version.
func find(version, id uint16) (*suite, error) {
	s := suites[id]
	if s == nil || version != tls.VersionTLS12 && version != tls.VersionTLS13 || (version == tls.VersionTLS13) != (id>>8 == 0x13) {
		return nil, errors.New("this version and cipher suite are not spoken here")
	}
	return s, nil
}

func gcm(key []byte) (cipher.AEAD, error) {
	b, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(b)
}

// expand returns HKDF-Expand-Label without a context (RFC 8446 section 7.1).
func (s *suite) expand(secret []byte, label string, n int) []byte {
	label = "tls13 " + label
	info := append([]byte{byte(n >> 8), byte(n), byte(len(label))}, label...)
	out, err := hkdf.Expand(s.hash, secret, string(append(info, 0)), n)
	if err != nil {
		panic(err) // none of the lengths used here is too long
	}
	return out
}

// prf returns the pseudorandom function of TLS 1.2 (RFC 5246 section 5).
func (s *suite) prf(secret []byte, label string, seed []byte, n int) []byte {
	seed = append([]byte(label), seed...)
	mac := hmac.New(s.hash, secret)
	sum := func(parts ...[]byte) []byte {
		mac.Reset()
		for _, p := range parts {
			mac.Write(p)
		}
		return mac.Sum(nil)
	}
	out, a := []byte(nil), seed
	for len(out) < n {
		a = sum(a)
		out = append(out, sum(a, seed)...)
	}
	clear(out[n:])
	return out[:n]
}
