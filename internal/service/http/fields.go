package http

import (
	"bytes"
	"encoding/binary"
)

// fields reads the field lines of a head into a request.
type fields struct {
	*request
	hosts, lengths, codings int // how many there were
	closes, keeps, upgrades bool
	http2                   bool // of the protocols to upgrade to
}

// parse reads field lines, each with its CRLF.
func (f *fields) parse(lines []byte) int {
	f.lines = lines
	for len(lines) > 0 {
		name, value, rest, ok := cutField(lines)
		if !ok {
			return 400
		}
		if status := f.field(name, value); status != 0 {
			return status
		}
		lines = rest
	}
	return 0
}

// cutField takes the first line off field lines, RFC 9112 section 5. It is strict:
// ok is false for a bare CR or LF, a line without a name or a colon, a space before
// the colon, a folded line, and control bytes in the value.
func cutField(lines []byte) (name, value, rest []byte, ok bool) {
	colon := 0
	for colon < len(lines) && isToken[lines[colon]] {
		colon++
	}
	if colon == 0 || colon == len(lines) || lines[colon] != ':' {
		return nil, nil, nil, false
	}
	end := colon + 1
	end += printable(lines[end:])
	for end < len(lines) && isValue[lines[end]] {
		end++
	}
	if end+1 >= len(lines) || lines[end] != '\r' || lines[end+1] != '\n' {
		return nil, nil, nil, false
	}
	return lines[:colon], trim(lines[colon+1 : end]), lines[end+2:], true
}

// printable returns how many bytes at the beginning are neither control bytes nor DEL, in
// multiples of eight: of long values most. The tests of eight bytes at once are
// "hasless" and "haszero" of Bit Twiddling Hacks (S. E. Anderson).
func printable(b []byte) int {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	n := 0
	for len(b)-n >= 8 {
		x := binary.LittleEndian.Uint64(b[n:])
		del := x ^ 0x7f*ones
		if ((x-' '*ones)&^x|(del-ones)&^del)&highs != 0 {
			break
		}
		n += 8
	}
	return n
}

// nextField takes the first line off field lines that cutField has found good.
func nextField(lines []byte) (name, value, rest []byte) {
	end := bytes.IndexByte(lines, '\r')
	colon := bytes.IndexByte(lines[:end], ':')
	return lines[:colon], trim(lines[colon+1 : end]), lines[end+2:]
}

// trim takes optional white space off both ends.
func trim(v []byte) []byte {
	for len(v) > 0 && (v[0] == ' ' || v[0] == '\t') {
		v = v[1:]
	}
	return trimRight(v)
}

func trimRight(v []byte) []byte {
	for len(v) > 0 && (v[len(v)-1] == ' ' || v[len(v)-1] == '\t') {
		v = v[:len(v)-1]
	}
	return v
}

// same compares a field name or a list's member with a lower-case word.
func same(name []byte, word string) bool {
	if len(name) != len(word) {
		return false
	}
	for i, b := range name {
		if b >= 'A' && b <= 'Z' {
			b += 'a' - 'A'
		}
		if b != word[i] {
			return false
		}
	}
	return true
}

// field takes one field, if it is of interest.
func (f *fields) field(name, value []byte) int {
	switch len(name) {
	case 2:
		if same(name, "te") {
			f.trailers = f.trailers || hasMember(value, "trailers")
		}
	case 4:
		if same(name, "host") {
			f.hosts++
			f.host = value
		}
	case 5:
		if same(name, "range") {
			first(&f.rangeField, value)
		}
	case 6:
		if same(name, "expect") {
			return f.expects(value)
		}
	case 7:
		switch {
		case same(name, "referer"):
			first(&f.referer, value)
		case same(name, "upgrade"):
			f.upgrade = f.upgrade || len(value) > 0
			f.http2 = f.http2 || hasMember(value, "h2c")
		}
	case 8:
		switch {
		case same(name, "if-match"):
			first(&f.ifMatch, value)
		case same(name, "if-range"):
			first(&f.ifRange, value)
		}
	case 10:
		switch {
		case same(name, "connection"):
			f.connection(value)
		case same(name, "user-agent"):
			first(&f.userAgent, value)
		}
	case 13:
		if same(name, "if-none-match") {
			first(&f.ifNoneMatch, value)
		}
	case 14:
		if same(name, "content-length") {
			f.lengths++
			return f.contentLength(value)
		}
	case 17:
		switch {
		case same(name, "transfer-encoding"):
			f.codings++
			f.chunked = same(value, "chunked")
		case same(name, "if-modified-since"):
			first(&f.ifModifiedSince, value)
		}
	case 19:
		if same(name, "if-unmodified-since") {
			first(&f.ifUnmodifiedSince, value)
		}
	}
	return 0
}

// first sets *to unless it is set.
func first(to *[]byte, value []byte) {
	if *to == nil {
		*to = value
	}
}

// contentLength takes the field's value.
func (f *fields) contentLength(v []byte) int {
	var ok bool
	if f.length, ok = parseLength(v); !ok {
		return 400
	}
	f.hasLength = true
	return 0
}

// parseLength reads digits and nothing else, RFC 9110 section 8.6.
func parseLength(v []byte) (n int64, ok bool) {
	if len(v) == 0 || len(v) > 18 {
		return 0, false
	}
	for _, b := range v {
		if !isDigit(b) {
			return 0, false
		}
		n = n*10 + int64(b-'0')
	}
	return n, true
}

// expects reads Expect, RFC 9110 section 10.1.1. There is one expectation.
func (f *fields) expects(v []byte) int {
	if len(v) == 0 {
		return 0 // a list of none
	}
	if !same(v, "100-continue") {
		return 417
	}
	f.expect = true
	return 0
}

// connection reads a list of options, RFC 9110 section 7.6.1.
func (f *fields) connection(v []byte) {
	for len(v) > 0 {
		var option []byte
		switch option, v = cutMember(v); {
		case same(option, "close"):
			f.closes = true
		case same(option, "keep-alive"):
			f.keeps = true
		case same(option, "upgrade"):
			f.upgrades = true
		case len(option) > 0:
			f.options++
		}
	}
}

// cutMember takes the first member off a list, RFC 9110 section 5.6.1. It may be
// empty.
func cutMember(list []byte) (member, rest []byte) {
	if comma := bytes.IndexByte(list, ','); comma >= 0 {
		return trim(list[:comma]), list[comma+1:]
	}
	return trim(list), nil
}

// hasMember tells whether a list has a word, with parameters or without.
func hasMember(list []byte, word string) bool {
	for len(list) > 0 {
		var m []byte
		m, list = cutMember(list)
		if semicolon := bytes.IndexByte(m, ';'); semicolon >= 0 {
			m = trim(m[:semicolon])
		}
		if same(m, word) {
			return true
		}
	}
	return false
}

// settle checks what the fields say together, and reads the target.
func (f *fields) settle(target []byte, scratch *[]byte) int {
	switch {
	case f.hosts > 1, len(f.host) == 0 && f.minor == 1: // none, or an empty one
		return 400
	case f.codings > 1, f.codings == 1 && f.lengths > 0, f.lengths > 1:
		return 400 // framing that can be read in two ways
	case f.codings == 1 && f.minor == 0:
		return 400
	case f.codings == 1 && !f.chunked:
		return 501
	}
	f.keepAlive = !f.closes && (f.minor == 1 || f.keeps)
	f.expect = f.expect && f.minor == 1
	// A tunnel of HTTP/2 would carry requests that no route has seen.
	f.upgrade = f.upgrade && f.upgrades && !f.http2 && f.minor == 1
	return f.settleTarget(target, scratch)
}
