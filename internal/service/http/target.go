package http

import "bytes"

// settleTarget reads the request target (RFC 9112 section 3.2) and the host.
func (r *request) settleTarget(t []byte, scratch *[]byte) int {
	authority := r.host
	switch {
	case string(r.method) == "CONNECT":
		return 501 // no tunnels here, and no 200 that could be taken for one
	case t[0] == '/':
	case len(t) == 1 && t[0] == '*':
		if string(r.method) != "OPTIONS" {
			return 400
		}
	default:
		var ok bool
		if authority, t, ok = absolute(t); !ok {
			return 400
		}
	}
	host, ok := hostOf(authority, scratch)
	if !ok {
		return 400
	}
	// The field must be valid even where the target overrules it.
	if len(r.host) > 0 && &r.host[0] != firstByte(authority) {
		if _, ok := hostOf(r.host, scratch); !ok {
			return 400
		}
	}
	// "example.test." is example.test, said so that no search list is tried (RFC 1034 section
	// 3.1). The authority goes on as it came.
	if n := len(host); n > 1 && host[n-1] == '.' {
		host = host[:n-1]
	}
	r.host, r.authority = host, authority
	if q := bytes.IndexByte(t, '?'); q >= 0 {
		t, r.query = t[:q], t[q+1:]
	}
	if len(t) == 0 {
		t = slash // "http://host?query": an empty path means "/"
	}
	if r.path, ok = clean(t, scratch); !ok {
		return 400
	}
	if r.sent = t; t[0] == '/' && len(r.path) > 0 && &r.path[0] != &t[0] {
		r.sent, r.resolved = resolveDots(t, scratch)
		if again, _ := clean(r.sent, scratch); hasMixedDots(r.sent) || !bytes.Equal(again, r.path) {
			// Which dots are segments is read in two ways, too: the server gets ours.
			from := len(*scratch)
			*scratch = appendEncoded(*scratch, r.path)
			r.sent, r.resolved = (*scratch)[from:], true
		}
	}
	return 0
}

func firstByte(b []byte) *byte {
	if len(b) == 0 {
		return nil
	}
	return &b[0]
}

// absolute splits an absolute-form target of the schemes http and https.
func absolute(t []byte) (authority, path []byte, ok bool) {
	switch {
	case len(t) > 7 && same(t[:7], "http://"):
		t = t[7:]
	case len(t) > 8 && same(t[:8], "https://"):
		t = t[8:]
	default:
		return nil, nil, false
	}
	end := bytes.IndexAny(t, "/?")
	switch {
	case end == 0:
		return nil, nil, false
	case end < 0:
		return t, slash, true
	}
	return t[:end], t[end:], true
}

var slash = []byte("/")

// hostOf returns the host of an authority in lower case, without its port,
// RFC 3986 section 3.2. User information is refused: RFC 9110 section 4.2.4.
func hostOf(a []byte, scratch *[]byte) (host []byte, ok bool) {
	upper := false
	for i, b := range a {
		switch hostByte[b] {
		case hostPlain:
		case hostUpper:
			upper = true
		case hostColon:
			if i == 0 || !allDigits(a[i+1:]) {
				return nil, false
			}
			if a = a[:i]; upper {
				a = lower(a, scratch)
			}
			return a, true
		case hostBracket:
			k := bytes.IndexByte(a, ']')
			if i != 0 || k < 0 || !isIPLiteral(a[1:k]) {
				return nil, false
			}
			rest := a[k+1:]
			if len(rest) > 0 && (rest[0] != ':' || !allDigits(rest[1:])) {
				return nil, false
			}
			return lower(a[:k+1], scratch), true
		default:
			return nil, false
		}
	}
	if upper {
		a = lower(a, scratch)
	}
	return a, true
}

func isIPLiteral(a []byte) bool {
	for _, b := range a {
		if !isHost(b) && b != ':' {
			return false
		}
	}
	return len(a) >= 2
}

func allDigits(a []byte) bool {
	for _, b := range a {
		if !isDigit(b) {
			return false
		}
	}
	return len(a) <= 5
}

func lower(a []byte, scratch *[]byte) []byte {
	from := len(*scratch)
	for _, b := range a {
		if b >= 'A' && b <= 'Z' {
			b += 'a' - 'A'
		}
		*scratch = append(*scratch, b)
	}
	return (*scratch)[from:]
}

// What a byte is in an authority without user information.
const (
	hostNot = iota
	hostPlain
	hostUpper
	hostColon
	hostBracket
)

// hostByte has the bytes of a reg-name or IPv4 address, RFC 3986 section 3.2.2, and what
// stands beside them.
var hostByte = func() (t [256]byte) {
	for b := byte('0'); b <= '9'; b++ {
		t[b] = hostPlain
	}
	for b := byte('a'); b <= 'z'; b++ {
		t[b], t[b-'a'+'A'] = hostPlain, hostUpper
	}
	for _, b := range []byte("-._~%!$&'()*+,;=") {
		t[b] = hostPlain
	}
	t[':'], t['['] = hostColon, hostBracket
	return t
}()

// isHost tells whether a byte can be in a reg-name.
func isHost(b byte) bool { return hostByte[b] == hostPlain || hostByte[b] == hostUpper }

// clean decodes a path and removes its dot segments and repeated slashes, in
// that order, so that no encoding hides anything from what comes after it. A
// path that would climb above the root stays there (RFC 3986 section 5.2.4). It
// returns t itself where nothing is to be done.
func clean(t []byte, scratch *[]byte) (path []byte, ok bool) {
	plain := true
	for i, b := range t {
		if b == '%' || (b == '.' || b == '/') && i > 0 && t[i-1] == '/' {
			plain = false
			break
		}
	}
	if plain {
		return t, true
	}
	from := len(*scratch)
	s := *scratch
	for i := 0; i < len(t); i++ {
		b := t[i]
		if b == '%' {
			if i+2 >= len(t) {
				return nil, false
			}
			hi, lo := unhex(t[i+1]), unhex(t[i+2])
			if hi > 15 || lo > 15 {
				return nil, false
			}
			if b = hi<<4 | lo; b == 0 {
				return nil, false
			}
			i += 2
		}
		s = append(s, b)
	}
	*scratch = s
	return removeDots(s[from:]), true
}

func unhex(b byte) byte {
	switch {
	case b >= '0' && b <= '9':
		return b - '0'
	case b >= 'a' && b <= 'f':
		return b - 'a' + 10
	case b >= 'A' && b <= 'F':
		return b - 'A' + 10
	}
	return 255
}

// removeDots works in place: the result is never longer.
func removeDots(p []byte) []byte {
	out := 0 // p[:out] is the result so far; it is empty or begins with a slash
	for i := 0; i < len(p); {
		// p[i] is a slash, or i is 0 and the path is "*".
		end := i + 1
		for end < len(p) && p[end] != '/' {
			end++
		}
		switch segment := p[i+1 : end]; {
		case len(segment) == 0 || string(segment) == ".":
			if end == len(p) {
				p[out] = '/'
				out++
			}
		case string(segment) == "..":
			for out > 0 {
				out--
				if p[out] == '/' {
					break
				}
			}
			if end == len(p) {
				p[out] = '/'
				out++
			}
		default:
			out += copy(p[out:], p[i:end])
		}
		i = end
	}
	if out == 0 {
		p[0], out = '/', 1
	}
	return p[:out]
}
