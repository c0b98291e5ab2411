package http

import "reuseportd/internal/service/http/message"

// Servers don't all read a path alike. A request whose path could be another route's to
// its server is refused, so that no route can be bypassed.

// Parts of a path that servers read in different ways.
const (
	encodedSlashes = 1 << iota // %2F: a slash, or a byte of a name
	backslashes                // a slash, to servers that follow Windows
	parameters                 // "..;x" is "..", to Java servlet containers
	decodedAgain               // %252E, and overlong UTF-8 such as %C0%AE
	everyReading   = 1<<iota - 1
)

// oddities returns which of these a path has.
func oddities(t []byte) (odd int) {
	for i, b := range t {
		switch b {
		case '\\':
			odd |= backslashes
		case ';':
			odd |= parameters
		case '%':
			switch message.Unhex(t[i+1])<<4 | message.Unhex(t[i+2]) {
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

// ambiguous reports whether the server behind a route could read r's path as that of another
// route.
func (s *Site) ambiguous(r *message.Request, found *route, scratch *[]byte) bool {
	p := found.guard
	end, plain, ok := message.Within(r.Sent, p.Base())
	if !ok {
		return true // impossible: the same dots were resolved
	}
	if plain && !r.Resolved && oddities(r.Sent) == 0 {
		return false
	}
	from := len(*scratch)
	defer func() { *scratch = (*scratch)[:from] }()
	*scratch = message.AppendBelow(message.AppendEncoded(*scratch, []byte(p.Base())), r.Sent[end:])
	if s.differs(r.Host, (*scratch)[from:], 0, found, scratch) {
		return true
	}
	return p.Strips() && s.differs(r.Host, (*scratch)[from:], len(p.Base()), found, scratch)
}

// differs reports whether one of the readings of t leads to another route than found. The
// first cut decoded bytes of t are read as the route's own path: the server doesn't see
// them as they were sent.
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
			path = path[:cut+len(message.RemoveDots(path[cut:]))]
		}
		if s.find(host, path) != found {
			return true
		}
	}
	return false
}

// appendReading appends how a server of some kind decodes t. An encoded slash that it
// doesn't treat as a slash becomes a zero byte, which no path has.
func appendReading(b, t []byte, reading int) []byte {
	from := len(b)
	again := reading&decodedAgain != 0
	for i := 0; i < len(t); i++ {
		c := t[i]
		if c == '%' {
			c = message.Unhex(t[i+1])<<4 | message.Unhex(t[i+2])
			i += 2
			if c == '%' && again && i+2 < len(t) && message.Unhex(t[i+1]) < 16 && message.Unhex(t[i+2]) < 16 {
				c = message.Unhex(t[i+1])<<4 | message.Unhex(t[i+2])
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
	v := uint32(b[0] & 1) // 0 for the longer forms
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
