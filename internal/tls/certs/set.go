package certs

import (
	"crypto/tls"
	"crypto/x509"
	"strings"
)

// Set is the certificates of a listener.
type Set struct {
	all    []*tls.Certificate
	byName map[string][]*tls.Certificate // in lower case, "*.example.com" among them
}

// NewSet makes a set. The first certificate is for clients that ask for no name, or for one that no
// certificate has.
func NewSet(all []*tls.Certificate) *Set {
	s := &Set{all: all, byName: make(map[string][]*tls.Certificate)}
	for _, c := range all {
		for _, n := range namesOf(c.Leaf) {
			s.byName[n] = append(s.byName[n], c)
		}
	}
	return s
}

// namesOf returns the names that a certificate is for. Its common name is used only if there is no other (RFC
// 9525).
func namesOf(c *x509.Certificate) (names []string) {
	for _, n := range c.DNSNames {
		names = append(names, strings.ToLower(n))
	}
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	if len(names) == 0 && c.Subject.CommonName != "" {
		names = append(names, strings.ToLower(c.Subject.CommonName))
	}
	return names
}

// forName returns the certificates for a name in lower case: first those that have it, then those with a
// wildcard.
func (s *Set) forName(name string) []*tls.Certificate {
	if found := s.byName[name]; len(found) > 0 {
		return found
	}
	if _, rest, ok := strings.Cut(name, "."); ok && rest != "" {
		return s.byName["*."+rest]
	}
	return nil
}

// Get chooses a client's certificate: among those for the name that it asks for, the first whose key it
// supports.
func (s *Set) Get(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
	found := s.forName(strings.ToLower(h.ServerName))
	if len(found) == 0 {
		// The first one, and others with its names, since they may have another kind of key.
		found = s.all[:1]
		if names := namesOf(s.all[0].Leaf); len(names) > 0 {
			found = s.byName[names[0]]
		}
	}
	if len(found) > 1 {
		for _, c := range found {
			if h.SupportsCertificate(c) == nil {
				return c, nil
			}
		}
	}
	return found[0], nil
}

// Covers reports whether a connection whose client asked for one name may be used for a host, in lower case: the certificate
// that the client got must be valid for both (RFC 9110 section 7.4).
func (s *Set) Covers(asked, host string) bool {
	if asked == host || asked == "" {
		return true
	}
	a := s.forName(asked)
	if len(a) == 0 {
		a = s.all[:1]
	}
	for _, c := range s.forName(host) {
		if c == a[0] {
			return true
		}
	}
	return len(s.forName(host)) == 0 && a[0] == s.all[0]
}
