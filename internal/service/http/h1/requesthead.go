package h1

import (
	"bytes"

	"reuseportd/internal/service/http/message"
)

// Limits bound a request head, in bytes.
type Limits struct {
	Line int // the request line, without its CRLF; a longer one is refused with 414
	Head int // the whole head with its empty line; a longer one is refused with 431
	Body int64
	// Blanks allows blanks after a chunk's size, since old servers pad it. They are not
	// passed on.
	Blanks bool
}

// maxEmptyLines bounds the empty lines before a request line, which a server should
// ignore (RFC 9112 section 2.2).
const maxEmptyLines = 1

// ParseRequest reads one request head. It returns its length and status 0; or length 0
// and status 0 when it is not complete; or length 0 and the status with which it is to be
// refused. An earlier call has looked at the bytes before from. What can't be a slice of
// in is put into scratch.
func ParseRequest(in []byte, from int, lim Limits, r *message.Request, scratch *[]byte) (n, status int) {
	*r = message.Request{}
	r.Minor = 1 // also if the request is refused
	*scratch = (*scratch)[:0]
	start := 0
	for start <= 2*maxEmptyLines && len(in) >= start+2 && in[start] == '\r' && in[start+1] == '\n' {
		start += 2
	}
	if start > 2*maxEmptyLines {
		return 0, 400
	}
	if start < len(in) && !message.IsToken[in[start]] && in[start] != '\r' {
		return 0, 400 // TLS, for example: the end of a head will never come
	}
	end := bytes.Index(in[max(start, from-3):], crlfcrlf)
	if end < 0 {
		return 0, incomplete(in[start:], max(0, from-start-1), lim)
	}
	end += max(start, from-3) + 4
	head := in[start:end]
	line := bytes.IndexByte(head, '\r')
	switch {
	case line > lim.Line:
		return 0, 414
	case len(head) > lim.Head:
		return 0, 431
	case head[line+1] != '\n':
		return 0, 400
	}
	target, status := parseLine(head[:line], r)
	if status != 0 {
		return 0, status
	}
	if status := r.ReadFields(head[line+2:len(head)-2], target, scratch); status != 0 {
		return 0, status
	}
	return end, 0
}

var crlfcrlf = []byte("\r\n\r\n")

// incomplete judges a head whose end hasn't come. It returns 0 if it can still become
// valid, otherwise the status with which it is to be refused.
func incomplete(in []byte, from int, lim Limits) int {
	line := bytes.IndexByte(in, '\n')
	switch {
	case line < 0 && len(in) > lim.Line+2, line > lim.Line+1:
		return 414
	case len(in) > lim.Head:
		return 431
	}
	// A CR or LF alone doesn't end a line here. To wait for the end of such a head would
	// only run into the timeout.
	if bareEnd(in, from) {
		return 400
	}
	return 0
}

// bareEnd reports whether in[from:] has a CR without an LF after it, or an LF without a
// CR before it. A CR at the very end may still be one of a pair.
func bareEnd(in []byte, from int) bool {
	for i := from; i < len(in); i++ {
		k := bytes.IndexByte(in[i:], '\n')
		if k < 0 {
			break
		}
		i += k
		if i == 0 || in[i-1] != '\r' {
			return true
		}
	}
	for i := from; i < len(in)-1; i++ {
		k := bytes.IndexByte(in[i:len(in)-1], '\r')
		if k < 0 {
			break
		}
		i += k
		if in[i+1] != '\n' {
			return true
		}
	}
	return false
}

// parseLine reads the request line, RFC 9112 section 3.
func parseLine(line []byte, r *message.Request) (target []byte, status int) {
	sp := 0
	for sp < len(line) && message.IsToken[line[sp]] {
		sp++
	}
	if sp == 0 || sp == len(line) || line[sp] != ' ' {
		return nil, 400
	}
	r.Method = line[:sp]
	rest := line[sp+1:]
	sp = 0
	for sp < len(rest) && message.IsTarget[rest[sp]] {
		sp++
	}
	if sp == 0 || sp == len(rest) || rest[sp] != ' ' {
		if sp = bytes.IndexByte(rest, ' '); sp > 0 {
			r.Target = rest[:sp] // for the access log
		}
		return nil, 400
	}
	r.Target = rest[:sp]
	version := rest[sp+1:]
	if len(version) != 8 || string(version[:5]) != "HTTP/" || version[6] != '.' ||
		!message.IsDigit(version[5]) || !message.IsDigit(version[7]) {
		return nil, 400
	}
	if version[5] != '1' {
		return nil, 505
	}
	r.Minor = min(version[7]-'0', 1)
	return r.Target, 0
}
