package message

import "bytes"

// Within finds the end of a route's path, without the slash at its end, in a path as it was
// sent. What follows it is empty or begins with a slash. plain is false if one of these
// slashes was sent encoded or repeated; ok is false if the path isn't below base.
func Within(sent []byte, base string) (end int, plain, ok bool) {
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
		for { // repeated slashes count as one
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

// decodeAt returns the byte at i, decoded, and where the next one begins. It returns 0 at
// the end of t; no path contains a 0.
func decodeAt(t []byte, i int) (c byte, next int) {
	switch {
	case i >= len(t):
		return 0, i
	case t[i] != '%':
		return t[i], i + 1
	}
	return Unhex(t[i+1])<<4 | Unhex(t[i+2]), i + 3
}

// AppendBelow appends what is below a route's path, beginning with a slash.
func AppendBelow(b, below []byte) []byte {
	if len(below) > 0 && below[0] == '%' {
		b, below = append(b, '/'), below[3:]
	}
	return AppendASCII(b, below)
}

// AppendASCII percent-encodes what a target can't have but clients send: raw UTF-8.
func AppendASCII(b, t []byte) []byte {
	for _, c := range t {
		if c < 0x80 {
			b = append(b, c)
		} else {
			b = append(b, '%', upperHex[c>>4], upperHex[c&15])
		}
	}
	return b
}

// resolveDots removes the segments "." and "..", encoded or not, from a path as RFC 3986
// section 5.2.4 says. Everything else stays as it was sent.
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

// hasMixedDots reports whether a dot segment stands between slashes of which one was sent
// encoded.
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

// AppendEncoded appends path, with every byte percent-encoded that may not stand in a
// path (RFC 3986 section 3.3).
func AppendEncoded(b, path []byte) []byte {
	for _, c := range path {
		switch {
		case c == '/' || c == ':' || c == '@' || c != '%' && isHost(c):
			b = append(b, c)
		default:
			b = append(b, '%', upperHex[c>>4], upperHex[c&15])
		}
	}
	return b
}

const upperHex = "0123456789ABCDEF"

// clean decodes a path and removes its dot segments and repeated slashes, in that order,
// so that no encoding hides anything from what comes after it. A path that would climb
// above the root stays there (RFC 3986 section 5.2.4). It returns t itself if there is
// nothing to change.
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
			hi, lo := Unhex(t[i+1]), Unhex(t[i+2])
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
	return RemoveDots(s[from:]), true
}

// RemoveDots removes dot segments and repeated slashes from a decoded path, in place: the
// result is never longer.
func RemoveDots(p []byte) []byte {
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
