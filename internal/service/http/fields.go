package http

import "bytes"

// fields reads the field lines of a head into a request.
type fields struct {
	*request
	hosts, lengths, codings int // how many there were
	closes, keeps           bool
}

// parse reads field lines, each with its CRLF, RFC 9112 section 5.
func (f *fields) parse(lines []byte) int {
	for len(lines) > 0 {
		end := bytes.IndexByte(lines, '\r')
		if end < 0 || end+1 >= len(lines) || lines[end+1] != '\n' {
			return 400 // a bare CR
		}
		line := lines[:end]
		lines = lines[end+2:]
		colon := 0
		for colon < len(line) && isToken[line[colon]] {
			colon++
		}
		// No colon, no name, a space before the colon, or a folded line.
		if colon == 0 || colon == len(line) || line[colon] != ':' {
			return 400
		}
		value := trim(line[colon+1:])
		for _, b := range value {
			if !isValue[b] {
				return 400
			}
		}
		if status := f.field(line[:colon], value); status != 0 {
			return status
		}
	}
	return 0
}

// trim takes optional white space off both ends.
func trim(v []byte) []byte {
	for len(v) > 0 && (v[0] == ' ' || v[0] == '\t') {
		v = v[1:]
	}
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
		if same(name, "referer") {
			first(&f.referer, value)
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

// contentLength reads digits and nothing else, RFC 9110 section 8.6.
func (f *fields) contentLength(v []byte) int {
	if len(v) == 0 || len(v) > 18 {
		return 400
	}
	f.length = 0
	for _, b := range v {
		if !isDigit(b) {
			return 400
		}
		f.length = f.length*10 + int64(b-'0')
	}
	return 0
}

// expects reads Expect, RFC 9110 section 10.1.1. There is one expectation.
func (f *fields) expects(v []byte) int {
	if !same(v, "100-continue") {
		return 417
	}
	f.expect = true
	return 0
}

// connection reads a list of options, RFC 9110 section 7.6.1.
func (f *fields) connection(v []byte) {
	for len(v) > 0 {
		option := v
		if comma := bytes.IndexByte(v, ','); comma >= 0 {
			option, v = v[:comma], v[comma+1:]
		} else {
			v = nil
		}
		switch option = trim(option); {
		case same(option, "close"):
			f.closes = true
		case same(option, "keep-alive"):
			f.keeps = true
		}
	}
}

// settle checks what the fields say together, and reads the target.
func (f *fields) settle(target []byte, scratch *[]byte) int {
	switch {
	case f.hosts > 1, f.hosts == 0 && f.minor == 1:
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
	return f.settleTarget(target, scratch)
}
