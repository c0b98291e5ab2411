package http

import "bytes"

// Servers don't all read a path alike. A request whose path could be another route's to
// its server is refused, so that nothing is reached behind the route that guards it.

// What in a path is read in more than one way.
const (
	encodedSlashes = 1 << iota // %2F: a slash, or a byte of a name
	backslashes                // a slash, to servers of Windows' kind
	parameters                 // "..;x" is "..", to servers of Java's kind
	decodedAgain               // %252E, and overlong UTF-8 such as %C0%AE
	everyReading   = 1<<iota - 1
)

// oddities returns what there is of these in a path.
func oddities(t []byte) (odd int) {
	for i, b := range t {
		switch b {
		case '\\':
			odd |= backslashes
		case ';':
			odd |= parameters
		case '%':
			switch unhex(t[i+1])<<4 | unhex(t[i+2]) {
			case '/':
				odd |= encodedSlashes
			case '\\':
				odd |= backslashes
			case ';':
				odd |= parameters
			case '%', 0xc0, 0xc1, 0xe0, 0xf0:
				return everyReading
			}
		case 0xc0, 0xc1, 0xe0, 0xf0:
			return everyReading
		}
	}
	return odd
}

// ambiguous reports whether the server of a route that passes r on could read in it the path
// of another route.
func (s *Site) ambiguous(r *request, found *route, scratch *[]byte) bool {
	p := found.proxy
	end, plain, ok := within(r.sent, p.base())
	if !ok {
		return true // which can't be: the same dots were resolved
	}
	if plain && !r.resolved && oddities(r.sent) == 0 {
		return false
	}
	from := len(*scratch)
	defer func() { *scratch = (*scratch)[:from] }()
	*scratch = appendBelow(appendEncoded(*scratch, []byte(p.base())), r.sent[end:])
	if s.differs(r.host, (*scratch)[from:], 0, found, scratch) {
		return true
	}
	return p.strip && s.differs(r.host, (*scratch)[from:], len(p.base()), found, scratch)
}

// differs reports whether one of the readings of t leads to another route than found. Of
// t the server doesn't see what stands before its last part of a route's path, cut
// decoded bytes.
func (s *Site) differs(host, t []byte, cut int, found *route, scratch *[]byte) bool {
	at := 0
	for range cut {
		if t[at] == '%' {
			at += 2
		}
		at++
	}
	odd, from := oddities(t[at:]), len(*scratch)
	for reading := 0; reading <= everyReading; reading++ {
		if reading&^odd != 0 {
			continue
		}
		b := append((*scratch)[:from], found.path[:cut]...)
		b = appendReading(b, t[at:], reading)
		*scratch = b
		path := b[from:]
		if len(path) > cut {
			path = path[:cut+len(removeDots(path[cut:]))]
		}
		if s.findPath(host, path) != found {
			return true
		}
	}
	return false
}

// appendReading appends how a server of some kind decodes t. An encoded slash that is
// none to it becomes a zero, which no path has.
func appendReading(b, t []byte, reading int) []byte {
	from := len(b)
	again := reading&decodedAgain != 0
	for i := 0; i < len(t); i++ {
		c := t[i]
		if c == '%' {
			c = unhex(t[i+1])<<4 | unhex(t[i+2])
			i += 2
			if c == '%' && again && i+2 < len(t) && unhex(t[i+1]) < 16 && unhex(t[i+2]) < 16 {
				c = unhex(t[i+1])<<4 | unhex(t[i+2])
				i += 2
			}
			if c == '/' && reading&encodedSlashes == 0 {
				c = 0
			}
		}
		b = append(b, c)
	}
	out, skip := from, false
	for i := from; i < len(b); i++ {
		c := b[i]
		if again {
			if short, n := overlong(b[i:]); n > 0 {
				c, i = short, i+n-1
			}
		}
		if c == '\\' && reading&backslashes != 0 {
			c = '/'
		}
		switch {
		case c == '/':
			skip = false
		case c == ';' && reading&parameters != 0:
			skip = true
		}
		if !skip {
			b[out] = c
			out++
		}
	}
	return b[:out]
}

// overlong reads an ASCII character in more bytes than it needs, RFC 3629 section 10.
func overlong(b []byte) (c byte, n int) {
	switch b[0] {
	case 0xc0, 0xc1:
		n = 2
	case 0xe0:
		n = 3
	case 0xf0:
		n = 4
	}
	if n == 0 || len(b) < n {
		return 0, 0
	}
	v := uint32(b[0] & 1) // of the longer ones 0
	for _, x := range b[1:n] {
		if x&0xc0 != 0x80 {
			return 0, 0
		}
		v = v<<6 | uint32(x&0x3f)
	}
	if v > 0x7f {
		return 0, 0
	}
	return byte(v), n
}

// within finds the end of a route's path, without the slash at its end, in a path as it
// came: what is behind it is empty or begins with a slash. plain is false if a
// slash of it, or the one behind, was sent encoded or twice; ok is false if it isn't there.
func within(sent []byte, base string) (end int, plain, ok bool) {
	plain = true
	for k := 0; k < len(base); {
		c, next := decodeAt(sent, end)
		if c != base[k] {
			return 0, false, false
		}
		plain = plain && (c != '/' || sent[end] == '/')
		end = next
		if k++; c != '/' {
			continue
		}
		for { // of several slashes one counts
			c, next = decodeAt(sent, end)
			if c != '/' {
				break
			}
			end, plain = next, false
		}
	}
	switch c, _ := decodeAt(sent, end); {
	case end == len(sent):
	case c != '/':
		return 0, false, false
	default:
		plain = plain && sent[end] == '/'
	}
	return end, plain, true
}

// decodeAt returns the byte that begins at i, which no path has as 0 but at its end.
func decodeAt(t []byte, i int) (c byte, next int) {
	switch {
	case i >= len(t):
		return 0, i
	case t[i] != '%':
		return t[i], i + 1
	}
	return unhex(t[i+1])<<4 | unhex(t[i+2]), i + 3
}

// appendBelow appends what is below a route's path, beginning with a slash.
func appendBelow(b, below []byte) []byte {
	if len(below) > 0 && below[0] == '%' {
		b, below = append(b, '/'), below[3:]
	}
	return appendASCII(b, below)
}

// appendASCII percent-encodes what a target can't have but clients send: raw UTF-8.
func appendASCII(b, t []byte) []byte {
	for _, c := range t {
		if c < 0x80 {
			b = append(b, c)
		} else {
			b = append(b, '%', upperHex[c>>4], upperHex[c&15])
		}
	}
	return b
}

// resolveDots removes the segments "." and "..", encoded or not, of a path as RFC 3986 section
// 5.2.4 has it. All else stays as it came.
func resolveDots(t []byte, scratch *[]byte) (path []byte, resolved bool) {
	from := len(*scratch)
	for i := 0; i < len(t); {
		end := i + 1
		if k := bytes.IndexByte(t[end:], '/'); k >= 0 {
			end += k
		} else {
			end = len(t)
		}
		dots := dotsOf(t[i+1 : end])
		if dots > 0 && !resolved {
			*scratch, resolved = append(*scratch, t[:i]...), true
		}
		switch {
		case !resolved:
			i = end
			continue
		case dots == 0:
			*scratch = append(*scratch, t[i:end]...)
		case dots == 2:
			*scratch = (*scratch)[:from+max(0, bytes.LastIndexByte((*scratch)[from:], '/'))]
		}
		if dots > 0 && end == len(t) {
			*scratch = append(*scratch, '/')
		}
		i = end
	}
	if !resolved {
		return t, false
	}
	return (*scratch)[from:], true
}

// hasMixedDots reports whether there are dots between slashes of which one was encoded.
func hasMixedDots(t []byte) bool {
	for i, begin := 0, 0; i <= len(t); {
		c, next := decodeAt(t, i)
		if i == len(t) || c == '/' {
			if dotsOf(t[begin:i]) > 0 {
				return true
			}
			begin = next
		}
		i = max(next, i+1)
	}
	return false
}

// dotsOf returns 1 for the segment ".", 2 for "..", and 0 for others.
func dotsOf(segment []byte) (n int) {
	for i := 0; i < len(segment); n++ {
		c, next := decodeAt(segment, i)
		if c != '.' || n == 2 {
			return 0
		}
		i = next
	}
	return n
}
