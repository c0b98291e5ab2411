// Package tlstest is a TLS client for tests that sends any records it likes after a handshake that crypto/tls has done.
//
// It owns a record layer of its own, written from the RFCs: what is tested must not be tested by itself. It must never be
// used by anything but tests.
package tlstest

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
)

// The content types (RFC 8446 section 5.1), and the message of RFC 8446 section 4.6.3.
const (
	ChangeCipherSpec = 20
	Alert            = 21
	Handshake        = 22
	Data             = 23

	keyUpdate = 24
)

// Conn is the client's end of a connection.
type Conn struct {
	net.Conn
	Version uint16

	in, out half
	heard   bytes.Buffer // what has come from the server and was not looked at here
	opened  bool         // a record with the keys for data has come: from then on all are
}

// half is one direction.
type half struct {
	secret []byte // of TLS 1.3
	aead   cipher.AEAD
	iv     []byte
	seq    uint64
}

// Shake does a handshake with AES-128-GCM. conf is a client's; the version is its MaxVersion.
func Shake(raw net.Conn, conf *tls.Config) (*Conn, error) {
	c := &Conn{Conn: raw}
	var keys bytes.Buffer
	conf = conf.Clone()
	conf.KeyLogWriter = &keys
	conf.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}
	done := tls.Client(&hearing{raw, &c.heard}, conf)
	if err := done.Handshake(); err != nil {
		return nil, err
	}
	state := done.ConnectionState()
	c.Version = state.Version
	secrets := make(map[string][]byte)
	for line := range bytes.Lines(keys.Bytes()) {
		f := bytes.Fields(line)
		secrets[string(f[0])], _ = hex.DecodeString(string(f[2]))
		secrets["random"], _ = hex.DecodeString(string(f[1]))
	}
	switch state.CipherSuite {
	case tls.TLS_AES_128_GCM_SHA256:
		c.in.use(secrets["SERVER_TRAFFIC_SECRET_0"])
		c.out.use(secrets["CLIENT_TRAFFIC_SECRET_0"])
	case tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256:
		server := c.heard.Bytes()[5+4+2:][:32]
		seed := append([]byte("key expansion"), append(bytes.Clone(server), secrets["random"]...)...)
		block := prf(secrets["CLIENT_RANDOM"], seed, 2*16+2*4)
		c.out = half{aead: gcm(block[:16]), iv: block[32:36], seq: 1}
		c.in = half{aead: gcm(block[16:32]), iv: block[36:40], seq: 1}
	default:
		return nil, fmt.Errorf("%s is not spoken here", tls.CipherSuiteName(state.CipherSuite))
	}
	return c, nil
}

// hearing keeps what is read.
type hearing struct {
	net.Conn
	heard *bytes.Buffer
}

func (h *hearing) Read(p []byte) (int, error) {
	n, err := h.Conn.Read(p)
	h.heard.Write(p[:n])
	return n, err
}

func gcm(key []byte) cipher.AEAD {
	b, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	a, err := cipher.NewGCM(b)
	if err != nil {
		panic(err)
	}
	return a
}

// prf is that of RFC 5246 section 5, with SHA-256.
func prf(secret, seed []byte, n int) (out []byte) {
	mac := hmac.New(sha256.New, secret)
	sum := func(p ...[]byte) []byte {
		mac.Reset()
		for _, b := range p {
			mac.Write(b)
		}
		return mac.Sum(nil)
	}
	for a := sum(seed); len(out) < n; a = sum(a) {
		out = append(out, sum(a, seed)...)
	}
	return out[:n]
}

// expand is HKDF-Expand-Label of RFC 8446 section 7.1.
func expand(secret []byte, label string, n int) []byte {
	info := append([]byte{0, byte(n), byte(len(label) + 6)}, "tls13 "+label...)
	out, err := hkdf.Expand(sha256.New, secret, string(append(info, 0)), n)
	if err != nil {
		panic(err)
	}
	return out
}

func (h *half) use(secret []byte) {
	*h = half{secret: secret, aead: gcm(expand(secret, "key", 16)), iv: expand(secret, "iv", 12)}
}

func (h *half) next() { h.use(expand(h.secret, "traffic upd", 32)) }

// nonce is that of TLS 1.3.
func (h *half) nonce() []byte {
	n := bytes.Clone(h.iv)
	binary.BigEndian.PutUint64(n[4:], binary.BigEndian.Uint64(n[4:])^h.seq)
	return n
}

// extra is what TLS 1.2 authenticates besides.
func (h *half) extra(kind byte, n int) []byte {
	b := binary.BigEndian.AppendUint64(nil, h.seq)
	return append(b, kind, 3, 3, byte(n>>8), byte(n))
}

// Seal returns a record of a type and a content, with padding if this is TLS 1.3, and any lengths.
func (c *Conn) Seal(kind byte, content []byte, padding int) []byte {
	h := &c.out
	defer func() { h.seq++ }()
	if c.Version == tls.VersionTLS12 {
		said := binary.BigEndian.AppendUint64(nil, h.seq)
		n := len(said) + len(content) + h.aead.Overhead()
		rec := append([]byte{kind, 3, 3, byte(n >> 8), byte(n)}, said...)
		return h.aead.Seal(rec, append(bytes.Clone(h.iv), said...), content, h.extra(kind, len(content)))
	}
	inner := append(append(bytes.Clone(content), kind), make([]byte, padding)...)
	n := len(inner) + h.aead.Overhead()
	head := []byte{Data, 3, 3, byte(n >> 8), byte(n)}
	return h.aead.Seal(head, h.nonce(), inner, head)
}

// Update returns a KeyUpdate of TLS 1.3, 1 asks for one in return, and changes the key.
func (c *Conn) Update(ask byte) []byte {
	rec := c.Seal(Handshake, []byte{keyUpdate, 0, 0, 1, ask}, 0)
	c.out.next()
	return rec
}

// ErrOrder is a record that can't be opened with the key and the number that it should have: somebody has changed it, or
// used a number twice.
var ErrOrder = errors.New("a record has another key or number than it should")

// Next reads the next record behind the handshake. A KeyUpdate has changed the server's key.
func (c *Conn) Next() (kind byte, content []byte, err error) {
	from := io.MultiReader(&c.heard, c.Conn)
	for {
		rec := make([]byte, 5)
		if _, err := io.ReadFull(from, rec); err != nil {
			return 0, nil, err
		}
		rec = append(rec, make([]byte, int(rec[3])<<8|int(rec[4]))...)
		if _, err := io.ReadFull(from, rec[5:]); err != nil {
			return 0, nil, err
		}
		kind, content, ok := c.open(rec)
		switch {
		case !ok && c.opened:
			return 0, nil, ErrOrder
		case !ok: // of the handshake
			continue
		case kind == Handshake && c.Version == tls.VersionTLS13 && len(content) > 0 && content[0] == keyUpdate:
			c.in.next()
		}
		c.opened = true
		return kind, content, nil
	}
}

// Said is what a server has said until the connection's end.
type Said struct {
	Data    []byte
	Alerts  [][2]byte // level, code
	Updates int       // of its key
	Err     error     // io.EOF if the connection has ended between two records
}

// Rest reads all that comes until the connection ends.
func (c *Conn) Rest() (s Said) {
	for {
		kind, content, err := c.Next()
		switch {
		case err != nil:
			s.Err = err
			return s
		case kind == Data:
			s.Data = append(s.Data, content...)
		case kind == Alert && len(content) == 2:
			s.Alerts = append(s.Alerts, [2]byte(content))
		case kind == Handshake && content[0] == keyUpdate:
			s.Updates++
		}
	}
}

// open opens a record; it is none that is sealed with the keys for data if that fails.
func (c *Conn) open(rec []byte) (kind byte, content []byte, ok bool) {
	h, kind, body := &c.in, rec[0], rec[5:]
	var err error
	if c.Version == tls.VersionTLS12 {
		n := len(body) - 8 - h.aead.Overhead()
		if n < 0 {
			return 0, nil, false
		}
		content, err = h.aead.Open(nil, append(bytes.Clone(h.iv), body[:8]...), body[8:], h.extra(kind, n))
	} else if content, err = h.aead.Open(nil, h.nonce(), body, rec[:5]); err == nil {
		content = bytes.TrimRight(content, "\x00")
		kind, content = content[len(content)-1], content[:len(content)-1]
	}
	if err != nil {
		return 0, nil, false
	}
	h.seq++
	return kind, content, true
}
