// Package hello reads the first message of a TLS client, its ClientHello, without consuming it: a proxy that passes
// a connection on without decrypting it chooses a server by the name in it.
//
// It owns nothing, keeps nothing of its input, and answers nobody. It must never believe a length: each is checked
// against the one around it. Within its bounds it accepts what crypto/tls accepts, and finds the same in it; a fuzz
// test compares the two.
package hello

import (
	"errors"
	"fmt"
	"strings"
)

// What Parse returns for an input that is no complete ClientHello.
var (
	ErrMore      = errors.New("the hello is not whole yet")
	ErrNotTLS    = errors.New("this is not TLS")
	ErrMalformed = errors.New("the hello is malformed")
	ErrTooLong   = errors.New("the hello is too long")
)

// errFollowed is an ErrMalformed: nothing may follow before the server has answered. crypto/tls finds that out later.
var errFollowed = fmt.Errorf("%w: more follows it in its record", ErrMalformed)

// MaxLen bounds the message, MaxInput the records that contain it, and MaxName the name in it, in bytes. The messages of
// browsers have 500 to 2 000.
const (
	MaxLen   = 16 << 10
	MaxInput = MaxLen + maxRecords*recordHeader
	MaxName  = 255 // of a server, RFC 1035 section 2.3.4

	maxRecords   = 64
	recordHeader = 5
	maxRecord    = 16 << 10 // RFC 8446 section 5.1
)

// Hello is what a client offers.
type Hello struct {
	// ServerName is in lower case; "" if the client names none (RFC 6066 section 3).
	ServerName string
	// Protocols are in the client's order (ALPN, RFC 7301).
	Protocols []string
}

// The numbers of RFC 8446 sections 4 and 5.1, and of RFC 6066 and RFC 7301.
const (
	typeHandshake   = 22
	typeClientHello = 1
	extServerName   = 0
	extALPN         = 16
	nameTypeHost    = 0
)

// Parse reads the ClientHello at the beginning of in. It consumes nothing.
func Parse(in []byte) (Hello, error) {
	msg, err := message(in)
	if err != nil {
		return Hello{}, err
	}
	h, ok := parse(msg)
	switch {
	case !ok:
		return Hello{}, ErrMalformed
	case len(h.ServerName) > MaxName:
		return Hello{}, ErrTooLong
	}
	return h, nil
}

// MayBeHTTP reports whether in, as far as it has come, begins like a request of HTTP/1: with a method in capitals.
func MayBeHTTP(in []byte) bool {
	for i, c := range in {
		switch {
		case c == ' ':
			return i >= 3
		case c < 'A' || c > 'Z' || i >= 20:
			return false
		}
	}
	return len(in) > 0
}

// message returns the ClientHello without its type and length. It is a slice of in if it is in one record.
func message(in []byte) ([]byte, error) {
	var joined []byte
	for range maxRecords {
		payload, err := record(in)
		if err != nil {
			return nil, err
		}
		in = in[recordHeader+len(payload):]
		if joined == nil {
			joined = payload[:len(payload):len(payload)] // appending copies it
		} else {
			joined = append(joined, payload...)
		}
		switch {
		case joined[0] != typeClientHello:
			return nil, ErrMalformed
		case len(joined) < 4:
			continue
		}
		n := int(joined[1])<<16 | int(joined[2])<<8 | int(joined[3])
		switch rest := joined[4:]; {
		case n > MaxLen:
			return nil, ErrTooLong
		case len(rest) > n:
			return nil, errFollowed
		case len(rest) == n:
			return rest, nil
		}
	}
	return nil, ErrTooLong
}

// record returns the payload of the first record of in. in must not be empty.
func record(in []byte) ([]byte, error) {
	// What isn't TLS is noticed at its first bytes, without waiting for a whole header. The version is to be ignored
	// (RFC 8446 section 5.1), but for what can be none, as in crypto/tls.
	switch {
	case len(in) > 0 && in[0] != typeHandshake, len(in) > 1 && in[1] >= 0x10:
		return nil, ErrNotTLS
	case len(in) < recordHeader:
		return nil, ErrMore
	}
	n := int(in[3])<<8 | int(in[4])
	switch {
	case n == 0:
		return nil, ErrMalformed
	case n > maxRecord:
		return nil, ErrTooLong
	case len(in) < recordHeader+n:
		return nil, ErrMore
	}
	return in[recordHeader : recordHeader+n], nil
}

// reader reads the parts of a message. A read beyond its end returns nothing, and marks
// it as failed.
type reader struct {
	b      []byte
	failed bool
}

func (r *reader) take(n int) []byte {
	if n > len(r.b) {
		r.failed, r.b = true, nil
		return nil
	}
	p := r.b[:n]
	r.b = r.b[n:]
	return p
}

// uint reads a number of size bytes.
func (r *reader) uint(size int) (n int) {
	for _, c := range r.take(size) {
		n = n<<8 | int(c)
	}
	return n
}

// vector reads what follows a length of size bytes.
func (r *reader) vector(size int) reader { return reader{r.take(r.uint(size)), r.failed} }

// parse reads a ClientHello (RFC 8446 section 4.1.2).
func parse(msg []byte) (h Hello, ok bool) {
	r := reader{b: msg}
	r.take(2 + 32) // version and random
	r.vector(1)    // session
	suites := r.vector(2)
	r.vector(1) // compression methods
	if r.failed || len(suites.b)%2 != 0 {
		return h, false
	}
	if len(r.b) == 0 {
		return h, true // TLS 1.2 allows a hello without extensions
	}
	list := r.vector(2)
	if r.failed || len(r.b) > 0 {
		return h, false
	}
	var seen [128]uint16 // more than a hello has
	for n := 0; len(list.b) > 0; n++ {
		kind := list.uint(2)
		ext := list.vector(2)
		if list.failed || n == len(seen) {
			return h, false
		}
		for _, k := range seen[:n] {
			if int(k) == kind {
				return h, false // RFC 8446 section 4.2
			}
		}
		seen[n] = uint16(kind)
		switch kind {
		case extServerName:
			h.ServerName, ok = serverName(ext)
		case extALPN:
			h.Protocols, ok = protocols(ext)
		default:
			continue
		}
		if !ok {
			return h, false
		}
	}
	return h, true
}

// serverName reads the one name of a host (RFC 6066 section 3). Names of other types don't exist.
func serverName(ext reader) (name string, ok bool) {
	list := ext.vector(2)
	if ext.failed || len(ext.b) > 0 || len(list.b) == 0 {
		return "", false
	}
	for len(list.b) > 0 {
		kind := list.uint(1)
		host := list.vector(2).b
		switch {
		case list.failed || len(host) == 0:
			return "", false
		case kind != nameTypeHost:
			continue
		case name != "" || host[len(host)-1] == '.':
			return "", false
		}
		name = strings.ToLower(string(host))
	}
	return name, true
}

// protocols reads the protocols that the client offers (RFC 7301 section 3.1).
func protocols(ext reader) (all []string, ok bool) {
	list := ext.vector(2)
	if ext.failed || len(ext.b) > 0 || len(list.b) == 0 {
		return nil, false
	}
	for len(list.b) > 0 {
		p := list.vector(1).b
		if list.failed || len(p) == 0 {
			return nil, false
		}
		all = append(all, string(p))
	}
	return all, true
}
