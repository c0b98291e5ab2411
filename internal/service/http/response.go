package http

import "bytes"

// response is one parsed response head of a server. Its slices lie in the input and
// are valid only until the handler returns.
type response struct {
	status int
	minor  byte   // of HTTP/1.minor: 0 or 1
	phrase []byte // the reason
	lines  []byte // the fields, each good and with its CRLF

	keepAlive bool
	length    int64 // Content-Length; -1 if there is none
	chunked   bool
	upgrade   bool // Upgrade, and Connection names it
	options   int  // in Connection, but for those that are known here
}

// maxResponseHead bounds a response's head, in bytes.
const maxResponseHead = 64 << 10

// parseResponse reads one response head, RFC 9112 section 4, as strictly as parse reads
// requests': what two parsers could read differently is malformed. It returns its
// length; or 0 when it is not complete. Bytes before from were seen by an earlier call.
func parseResponse(in []byte, from int, r *response) (n int, ok bool) {
	*r = response{length: -1}
	// What is no response at all shows at once, and not when 64 KiB have come.
	if k := min(len(in), len(version)); string(in[:k]) != version[:k] {
		return 0, false
	}
	end := bytes.Index(in[max(0, from-3):], crlfcrlf)
	if end < 0 {
		return 0, len(in) < maxResponseHead && incomplete(in, max(0, from-1), endless) == 0
	}
	end += max(0, from-3) + 4
	if end > maxResponseHead {
		return 0, false
	}
	line := bytes.IndexByte(in, '\r')
	if in[line+1] != '\n' || !r.parseLine(in[:line]) {
		return 0, false
	}
	return end, r.parseFields(in[line+2 : end-2])
}

const version = "HTTP/1."

var endless = limits{line: maxResponseHead, head: maxResponseHead}

// parseLine reads a status line. The space behind the code may be missing, as it often
// is when there is no phrase.
func (r *response) parseLine(line []byte) bool {
	if len(line) < len("HTTP/1.1 200") || !isDigit(line[7]) || line[8] != ' ' {
		return false
	}
	r.minor = min(line[7]-'0', 1)
	code, phrase := line[9:12], line[12:]
	if len(phrase) > 0 && phrase[0] != ' ' || !all(phrase, &isValue) || !all(code, &isDigits) || code[0] == '0' {
		return false
	}
	r.phrase = trim(phrase)
	r.status = int(code[0]-'0')*100 + int(code[1]-'0')*10 + int(code[2]-'0')
	return true
}

var isDigits = func() (t [256]bool) {
	for b := byte('0'); b <= '9'; b++ {
		t[b] = true
	}
	return t
}()

// parseFields reads field lines, and decides how the message is framed.
func (r *response) parseFields(lines []byte) bool {
	r.lines = lines
	var lengths, codings int
	var closes, keeps, upgrades, protocol bool
	for len(lines) > 0 {
		name, value, rest, ok := cutField(lines)
		if !ok {
			return false
		}
		lines = rest
		switch len(name) {
		case 7:
			protocol = protocol || same(name, "upgrade") && len(value) > 0
		case 10:
			if !same(name, "connection") {
				continue
			}
			for len(value) > 0 {
				var option []byte
				switch option, value = cutMember(value); {
				case same(option, "close"):
					closes = true
				case same(option, "keep-alive"):
					keeps = true
				case same(option, "upgrade"):
					upgrades = true
				case len(option) > 0:
					r.options++
				}
			}
		case 14:
			if same(name, "content-length") {
				lengths++
				if r.length, ok = parseLength(value); !ok {
					return false
				}
			}
		case 17:
			if same(name, "transfer-encoding") {
				codings++
				r.chunked = same(value, "chunked")
			}
		}
	}
	r.keepAlive = !closes && (r.minor == 1 || keeps)
	r.upgrade = upgrades && protocol
	// Two lengths, a coding with a length, twice, of another kind or in HTTP/1.0.
	return lengths+codings <= 1 && (codings == 0 || r.chunked && r.minor == 1)
}

// framing is how a recipient finds the end of a response's content, RFC 9112 section 6.3.
type framing uint8

const (
	framedNone framing = iota // there is no content
	framedLength
	framedChunks
	framedClose // it ends with the connection
)

// framing tells how the response to a request, a HEAD or not, is framed.
func (r *response) framing(head bool) framing {
	switch {
	case head || r.status < 200 || r.status == 204 || r.status == 304 || r.length == 0:
		return framedNone
	case r.chunked:
		return framedChunks
	case r.length > 0:
		return framedLength
	}
	return framedClose
}
