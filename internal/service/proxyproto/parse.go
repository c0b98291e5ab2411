// Package proxyproto reads and writes the header of the PROXY protocol, versions 1 and 2,
// by which a proxy tells the next one on whose behalf it connects: HAProxy's
// doc/proxy-protocol.txt.
//
// It owns nothing and keeps nothing of what it is given. It must never guess: what
// doesn't follow the specification exactly is an error.
package proxyproto

import (
	"errors"
	"net/netip"
)

// Header is what a connection began with.
type Header struct {
	Version int // 1 or 2
	// Source and Destination are the ends of the connection that the sender accepted. They
	// are zero if it doesn't say (UNKNOWN, LOCAL, UNSPEC, Unix sockets): then the
	// connection's own addresses are used. An IPv4 address that is written as an IPv6 one is
	// an IPv4 address.
	Source, Destination netip.AddrPort
}

var (
	errNeither = errors.New("it does not begin with a PROXY protocol header")
	errLong    = errors.New("the PROXY protocol header is too long")
	errV1      = errors.New("the PROXY protocol header of version 1 is malformed")
	errV2      = errors.New("the PROXY protocol header of version 2 is malformed")
	errSum     = errors.New("the PROXY protocol header's checksum is wrong")
)

// Parse reads the header that in begins with, and returns its length. 0 without an error
// means that more input is needed. It returns an error as soon as no further input can
// complete a header. The result does not depend on how the input is split: more input
// never changes a header or takes back an error.
func Parse(in []byte) (h Header, n int, err error) {
	switch {
	case begins(in, prefix):
		return parseV1(in)
	case begins(in, signature):
		return parseV2(in)
	}
	return Header{}, 0, errNeither
}

// begins reports whether in is a prefix of p or begins with p.
func begins(in []byte, p string) bool {
	n := min(len(in), len(p))
	return string(in[:n]) == p[:n]
}
