package proxyproto

import (
	"bytes"
	"net/netip"
	"strings"
	"unsafe"
)

const (
	prefix = "PROXY "
	// maxV1 is the length of the longest line with its CRLF, in bytes.
	maxV1 = 107
)

// family is an address family of version 1: its word, and the bytes that the rest of its
// line may have.
type family struct{ word, bytes string }

var families = [...]family{
	{"TCP4 ", "0123456789. "},
	{"TCP6 ", "0123456789abcdefABCDEF:. "},
	{"UNKNOWN", ""}, // any
}

// parseV1 reads input that begins like a header of version 1.
func parseV1(in []byte) (h Header, n int, err error) {
	if len(in) <= len(prefix) {
		return h, 0, nil
	}
	line := in[:min(len(in), maxV1)]
	cr := bytes.IndexAny(line, "\r\n")
	whole := cr >= 0 && cr+1 < len(line)
	switch {
	case whole && string(line[cr:cr+2]) != "\r\n", cr >= 0 && line[cr] == '\n':
		return h, 0, errV1
	case !whole && len(line) == maxV1:
		return h, 0, errLong
	case cr >= 0:
		line = line[:cr]
	}
	for _, f := range families {
		rest := line[len(prefix):]
		if !begins(rest, f.word) {
			continue
		}
		if len(rest) < len(f.word) {
			if cr >= 0 {
				break
			}
			return h, 0, nil
		}
		return f.parse(rest[len(f.word):], cr, whole)
	}
	return h, 0, errV1
}

// parse reads what follows the family's word, up to the line's end at cr.
func (f *family) parse(rest []byte, cr int, whole bool) (h Header, n int, err error) {
	if f.bytes == "" {
		// "The receiver must ignore anything presented before the CRLF."
		switch {
		case len(rest) > 0 && rest[0] != ' ':
			return h, 0, errV1
		case whole:
			h.Version, n = 1, cr+2
		}
		return h, n, nil
	}
	for _, b := range rest {
		if strings.IndexByte(f.bytes, b) < 0 {
			return h, 0, errV1
		}
	}
	if cr < 0 {
		return h, 0, nil
	}
	src, rest, _ := bytes.Cut(rest, space)
	dst, rest, _ := bytes.Cut(rest, space)
	srcPort, dstPort, _ := bytes.Cut(rest, space)
	a, ok1 := f.address(src, srcPort)
	b, ok2 := f.address(dst, dstPort)
	if !ok1 || !ok2 {
		return h, 0, errV1
	}
	if whole {
		h, n = Header{Version: 1, Source: a, Destination: b}, cr+2
	}
	return h, n, nil
}

var space = []byte(" ")

// address reads an address of the family, and a port.
func (f *family) address(text, port []byte) (netip.AddrPort, bool) {
	p, ok := parsePort(port)
	// The string refers to text while the call lasts: no copy is made.
	a, err := netip.ParseAddr(unsafe.String(unsafe.SliceData(text), len(text)))
	if !ok || err != nil || a.Is4() != (f.word == "TCP4 ") {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(a.Unmap(), p), true
}

// parsePort reads a port in its only form: decimal, without leading zeros.
func parsePort(text []byte) (uint16, bool) {
	if len(text) == 0 || len(text) > 5 || text[0] == '0' && len(text) > 1 {
		return 0, false
	}
	n := 0
	for _, b := range text {
		if b < '0' || b > '9' {
			return 0, false
		}
		n = 10*n + int(b-'0')
	}
	return uint16(n), n <= 65535
}
