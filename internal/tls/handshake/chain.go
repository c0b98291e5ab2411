package handshake

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"

	"reuseportd/internal/tls/record"
)

// crypto/tls verifies a client's chain on the event loop, and crypto/x509 checks as many as a hundred signatures for one that is
// made for that: a third of a second. So the chain is looked at before crypto/tls gets it, and refused if it could take long. Nothing is
// let in by this.

// maxChain bounds the certificates in a client's chain. With names that are all different, each signature is checked once.
const maxChain = 6

var (
	errChain = errors.New("the client's chain has more than 6 certificates")
	errTwice = errors.New("two certificates in the client's chain have the same name")
)

// chain looks for a client's certificates in what it sends.
type chain struct {
	keys     *record.Conn // of a handshake of TLS 1.3
	messages []byte       // of the handshake, not looked at yet
	done     bool         // they have come, or nobody asks for them
}

const typeCertificate = 11

// look looks at the client's next record, before crypto/tls reads it. What isn't as it should be is crypto/tls' to refuse.
func (c *chain) look(s *Shake, rec []byte) error {
	if c.done || len(rec) < 5 {
		return nil
	}
	content, sealed := rec[5:], rec[0] == 23
	if sealed {
		if content = c.open(s, rec); content == nil {
			return nil
		}
	} else if rec[0] != 22 {
		return nil
	}
	c.messages = append(c.messages, content...)
	for len(c.messages) >= 4 {
		n := 4 + int(c.messages[1])<<16 + int(c.messages[2])<<8 + int(c.messages[3])
		if len(c.messages) < n {
			return nil
		}
		if c.messages[0] == typeCertificate {
			body := c.messages[4:n]
			c.free()
			return judge(body, sealed)
		}
		c.messages = c.messages[n:]
	}
	return nil
}

// open opens a record of the handshake of TLS 1.3.
func (c *chain) open(s *Shake, rec []byte) []byte {
	if c.keys == nil {
		// The server's hello: type, length, version, random, session, suite (RFC 8446 section 4.1.3).
		const session = 5 + 4 + 2 + 32
		if !s.secrets.hasShaking || len(s.all) <= session || len(s.all) < session+1+int(s.all[session])+2 {
			return nil
		}
		at := session + 1 + int(s.all[session])
		secret := s.secrets.shaking[:s.secrets.size]
		keys, err := record.New(record.Keys{
			Version: tls.VersionTLS13, Suite: uint16(s.all[at])<<8 | uint16(s.all[at+1]), In: secret, Out: secret,
		}, new(record.Room))
		if err != nil {
			return nil
		}
		c.keys = keys
	}
	kind, content, ok := c.keys.Peek(rec)
	if !ok || kind != 22 {
		return nil
	}
	return content
}

// free forgets all.
func (c *chain) free() {
	if c.keys != nil {
		c.keys.Wipe()
	}
	*c = chain{done: true}
}

// judge returns an error for a message with certificates that could take long to verify (RFC 8446 section 4.4.2, RFC 5246
// section 7.4.2).
func judge(body []byte, v13 bool) error {
	take := func(size int) (p []byte) {
		n := 0
		for i := range size {
			if i >= len(body) {
				body = nil
				return nil
			}
			n = n<<8 | int(body[i])
		}
		if n > len(body)-size {
			body = nil
			return nil
		}
		p, body = body[size:size+n], body[size+n:]
		return p
	}
	if v13 {
		take(1) // the context
	}
	body = take(3)
	var names [][]byte
	for len(body) > 0 {
		der := take(3)
		if v13 {
			take(2) // extensions
		}
		if len(names) == maxChain {
			return errChain
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil
		}
		for _, n := range names {
			if bytes.Equal(n, c.RawSubject) {
				return errTwice
			}
		}
		names = append(names, c.RawSubject)
	}
	return nil
}
