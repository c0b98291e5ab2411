// Package info is what is known about a session of TLS, as data: logs, placeholders and servers are told of it.
//
// It owns the names by which its parts are asked for. It must never know a connection or a key.
package info

import (
	"crypto/tls"
	"strings"
)

// Session is what a handshake has found out. The client's texts are printable: what doesn't print is escaped as in RFC 4514.
type Session struct {
	Version, Suite uint16 // as in crypto/tls
	Resumed        bool
	ServerName     string // for which the client asked, "" if none
	Protocol       string // chosen by ALPN, "" if none was

	// Of the client's verified certificate, "" if there is none: names as in RFC 4514, the serial number and the SHA-256 of the
	// certificate in hex.
	Subject, Issuer, Serial, Fingerprint string
	// Authority is certs.Hash of who has signed for that certificate in the end.
	Authority string
}

// VersionName returns "1.2" or "1.3".
func (s *Session) VersionName() string {
	return strings.TrimPrefix(tls.VersionName(s.Version), "TLS ")
}

// SuiteName returns the name of the cipher suite (IANA's).
func (s *Session) SuiteName() string { return tls.CipherSuiteName(s.Suite) }

// Names are those that Value knows.
var Names = []string{
	"tls.version", "tls.cipher", "tls.resumed", "tls.server_name",
	"tls.client.subject", "tls.client.issuer", "tls.client.serial", "tls.client.fingerprint",
}

// Value returns a part of what is known, "" for what isn't, and of no session.
func (s *Session) Value(name string) string {
	if s == nil {
		return ""
	}
	switch name {
	case "tls.version":
		return s.VersionName()
	case "tls.cipher":
		return s.SuiteName()
	case "tls.resumed":
		if s.Resumed {
			return "yes"
		}
		return "no"
	case "tls.server_name":
		return s.ServerName
	case "tls.client.subject":
		return s.Subject
	case "tls.client.issuer":
		return s.Issuer
	case "tls.client.serial":
		return s.Serial
	case "tls.client.fingerprint":
		return s.Fingerprint
	}
	return ""
}

// Printable escapes what doesn't print in US-ASCII, as in RFC 4514 section 2.4: a field or a line that has it stays one.
func Printable(name string) string {
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	for _, c := range []byte(name) {
		if c >= ' ' && c < 0x7f {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('\\')
		b.WriteByte(digits[c>>4])
		b.WriteByte(digits[c&15])
	}
	return b.String()
}
