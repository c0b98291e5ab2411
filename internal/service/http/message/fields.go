package message

import (
	"bytes"
	"encoding/binary"
)

// fields reads the field lines of a head into a request.
type fields struct {
	*Request
	hosts, lengths, codings int // number of such fields
	closes, keeps, upgrades bool
	http2                   bool // HTTP/2 is among the protocols to upgrade to
}

// ReadFields reads the field lines of a head, each with its CRLF, and its target. It returns 0, or the
// status with which the request is to be refused. What can't be a slice of lines or target is put into
// scratch.
func (r *Request) ReadFields(lines, target []byte, scratch *[]byte) (status int) {
	f := fields{Request: r}
	if status := f.parse(lines); status != 0 {
		return status
	}
	return f.settle(target, scratch)
}

// parse reads field lines, each with its CRLF.
func (f *fields) parse(lines []byte) int {
	f.Lines = lines
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
	for colon < len(lines) && IsToken[lines[colon]] {
		colon++
	}
	if colon == 0 || colon == len(lines) || lines[colon] != ':' {
		return nil, nil, nil, false
	}
	end := colon + 1
	end += printable(lines[end:])
	for end < len(lines) && IsValue[lines[end]] {
		end++
	}
	if end+1 >= len(lines) || lines[end] != '\r' || lines[end+1] != '\n' {
		return nil, nil, nil, false
	}
	return lines[:colon], Trim(lines[colon+1 : end]), lines[end+2:], true
}

// printable returns a number of bytes, a multiple of eight, at the beginning of b that
// are neither control bytes nor DEL. It looks at eight bytes at once, by "hasless" and
// "haszero" of Bit Twiddling Hacks (S. E. Anderson), and leaves the rest to the caller.
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

// NextField takes the first line off field lines that cutField has accepted.
func NextField(lines []byte) (name, value, rest []byte) {
	end := bytes.IndexByte(lines, '\r')
	colon := bytes.IndexByte(lines[:end], ':')
	return lines[:colon], Trim(lines[colon+1 : end]), lines[end+2:]
}

// CutLine splits a valid field line without its CRLF. An empty line has neither name nor
// value.
func CutLine(line []byte) (name, value []byte) {
	colon := bytes.IndexByte(line, ':')
	if colon < 0 {
		return nil, nil
	}
	return line[:colon], Trim(line[colon+1:])
}

// Trim takes optional white space off both ends.
func Trim(v []byte) []byte {
	for len(v) > 0 && (v[0] == ' ' || v[0] == '\t') {
		v = v[1:]
	}
	return TrimRight(v)
}

// TrimRight takes optional white space off the end.
func TrimRight(v []byte) []byte {
	for len(v) > 0 && (v[len(v)-1] == ' ' || v[len(v)-1] == '\t') {
		v = v[:len(v)-1]
	}
	return v
}

// Same compares a field name or a list's member with a lower-case word.
func Same(name []byte, word string) bool {
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

// field records one field, if it is of interest.
func (f *fields) field(name, value []byte) int {
	switch len(name) {
	case 2:
		if Same(name, "te") {
			f.Trailers = f.Trailers || hasMember(value, "trailers")
		}
	case 4:
		if Same(name, "host") {
			f.hosts++
			f.Host = value
		}
	case 5:
		if Same(name, "range") {
			first(&f.RangeField, value)
		}
	case 6:
		if Same(name, "expect") {
			return f.expects(value)
		}
	case 7:
		switch {
		case Same(name, "referer"):
			first(&f.Referer, value)
		case Same(name, "upgrade"):
			f.Upgrade = f.Upgrade || len(value) > 0
			f.http2 = f.http2 || hasMember(value, "h2c")
		}
	case 8:
		switch {
		case Same(name, "if-match"):
			first(&f.IfMatch, value)
		case Same(name, "if-range"):
			first(&f.IfRange, value)
		}
	case 10:
		switch {
		case Same(name, "connection"):
			f.connection(value)
		case Same(name, "user-agent"):
			first(&f.UserAgent, value)
		}
	case 13:
		if Same(name, "if-none-match") {
			first(&f.IfNoneMatch, value)
		}
	case 14:
		if Same(name, "content-length") {
			f.lengths++
			return f.contentLength(value)
		}
	case 17:
		switch {
		case Same(name, "transfer-encoding"):
			f.codings++
			f.Chunked = Same(value, "chunked")
		case Same(name, "if-modified-since"):
			first(&f.IfModifiedSince, value)
		}
	case 19:
		if Same(name, "if-unmodified-since") {
			first(&f.IfUnmodifiedSince, value)
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

// contentLength reads the value of Content-Length.
func (f *fields) contentLength(v []byte) int {
	var ok bool
	if f.Length, ok = parseLength(v); !ok {
		return 400
	}
	f.HasLength = true
	return 0
}

// parseLength reads digits and nothing else, RFC 9110 section 8.6.
func parseLength(v []byte) (n int64, ok bool) {
	if len(v) == 0 || len(v) > 18 {
		return 0, false
	}
	for _, b := range v {
		if !IsDigit(b) {
			return 0, false
		}
		n = n*10 + int64(b-'0')
	}
	return n, true
}

// expects reads Expect, RFC 9110 section 10.1.1. The only expectation is 100-continue.
func (f *fields) expects(v []byte) int {
	if len(v) == 0 {
		return 0 // an empty list
	}
	if !Same(v, "100-continue") {
		return 417
	}
	f.Expect = true
	return 0
}

// connection reads a list of options, RFC 9110 section 7.6.1.
func (f *fields) connection(v []byte) {
	for len(v) > 0 {
		var option []byte
		switch option, v = cutMember(v); {
		case Same(option, "close"):
			f.closes = true
		case Same(option, "keep-alive"):
			f.keeps = true
		case Same(option, "upgrade"):
			f.upgrades = true
		case len(option) > 0:
			f.MoreOptions++
		}
	}
}

// cutMember takes the first member off a list, RFC 9110 section 5.6.1. It may be
// empty.
func cutMember(list []byte) (member, rest []byte) {
	if comma := bytes.IndexByte(list, ','); comma >= 0 {
		return Trim(list[:comma]), list[comma+1:]
	}
	return Trim(list), nil
}

// hasMember reports whether a list has a word, with parameters or without.
func hasMember(list []byte, word string) bool {
	for len(list) > 0 {
		var m []byte
		m, list = cutMember(list)
		if semicolon := bytes.IndexByte(m, ';'); semicolon >= 0 {
			m = Trim(m[:semicolon])
		}
		if Same(m, word) {
			return true
		}
	}
	return false
}

// settle checks what the fields say together, and reads the target.
func (f *fields) settle(target []byte, scratch *[]byte) int {
	switch {
	case f.hosts > 1, len(f.Host) == 0 && f.Minor == 1: // none, or an empty one
		return 400
	case f.codings > 1, f.codings == 1 && f.lengths > 0, f.lengths > 1:
		return 400 // framing that can be read in two ways
	case f.codings == 1 && f.Minor == 0:
		return 400
	case f.codings == 1 && !f.Chunked:
		return 501
	}
	f.KeepAlive = !f.closes && (f.Minor == 1 || f.keeps)
	f.Expect = f.Expect && f.Minor == 1
	// A tunnel of HTTP/2 would carry requests that no route has seen.
	f.Upgrade = f.Upgrade && f.upgrades && !f.http2 && f.Minor == 1
	return f.settleTarget(target, scratch)
}

// AppendField appends a field line.
func AppendField(b, name, value []byte) []byte {
	b = append(b, name...)
	b = append(b, ": "...)
	b = append(b, value...)
	return append(b, "\r\n"...)
}
