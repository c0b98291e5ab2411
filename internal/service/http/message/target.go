package message

import "bytes"

// settleTarget reads the request target (RFC 9112 section 3.2) and the host.
func (r *Request) settleTarget(t []byte, scratch *[]byte) int {
	authority := r.Host
	switch {
	case string(r.Method) == "CONNECT":
		return 501 // there are no tunnels here, and a 200 could be taken for one
	case t[0] == '/':
	case len(t) == 1 && t[0] == '*':
		if string(r.Method) != "OPTIONS" {
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
	// The field must be valid even if the target overrides it.
	if len(r.Host) > 0 && &r.Host[0] != firstByte(authority) {
		if _, ok := hostOf(r.Host, scratch); !ok {
			return 400
		}
	}
	// "example.test." is example.test, written so that no search list is tried (RFC 1034
	// section 3.1). The authority is passed on as it came.
	if n := len(host); n > 1 && host[n-1] == '.' {
		host = host[:n-1]
	}
	r.Host, r.Authority = host, authority
	if q := bytes.IndexByte(t, '?'); q >= 0 {
		t, r.Query = t[:q], t[q+1:]
	}
	if len(t) == 0 {
		t = slash // "http://host?query": an empty path means "/"
	}
	if r.Path, ok = clean(t, scratch); !ok {
		return 400
	}
	if r.Sent = t; t[0] == '/' && len(r.Path) > 0 && &r.Path[0] != &t[0] {
		r.Sent, r.Resolved = resolveDots(t, scratch)
		if again, _ := clean(r.Sent, scratch); hasMixedDots(r.Sent) || !bytes.Equal(again, r.Path) {
			// Servers disagree about what a dot segment is, so they get the path as it is
			// understood here.
			from := len(*scratch)
			*scratch = AppendEncoded(*scratch, r.Path)
			r.Sent, r.Resolved = (*scratch)[from:], true
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
	case len(t) > 7 && Same(t[:7], "http://"):
		t = t[7:]
	case len(t) > 8 && Same(t[:8], "https://"):
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
		if !IsDigit(b) {
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

// Classes of bytes in an authority without user information.
const (
	hostNot = iota
	hostPlain
	hostUpper
	hostColon
	hostBracket
)

// hostByte has the class of each byte of a reg-name or IPv4 address (RFC 3986 section
// 3.2.2), and of those that delimit them.
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

// isHost reports whether a byte can be in a reg-name.
func isHost(b byte) bool { return hostByte[b] == hostPlain || hostByte[b] == hostUpper }
