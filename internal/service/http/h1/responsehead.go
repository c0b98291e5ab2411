package h1

import (
	"bytes"

	"reuseportd/internal/service/http/message"
)

// MaxResponseHead bounds a response's head, in bytes.
const MaxResponseHead = 64 << 10

// ParseResponse reads one response head, RFC 9112 section 4, as strictly as ParseRequest
// reads a request's: what two parsers could read differently is malformed. It returns the
// head's length, 0 if it is not complete; ok is false if it is malformed. An earlier call
// has looked at the bytes before from.
func ParseResponse(in []byte, from int, r *message.Response) (n int, ok bool) {
	*r = message.Response{Length: -1}
	// What is no response at all is noticed at once, not after 64 KiB.
	if k := min(len(in), len(version)); string(in[:k]) != version[:k] {
		return 0, false
	}
	end := bytes.Index(in[max(0, from-3):], crlfcrlf)
	if end < 0 {
		return 0, len(in) < MaxResponseHead && incomplete(in, max(0, from-1), endless) == 0
	}
	end += max(0, from-3) + 4
	if end > MaxResponseHead {
		return 0, false
	}
	line := bytes.IndexByte(in, '\r')
	if in[line+1] != '\n' || !parseStatusLine(in[:line], r) {
		return 0, false
	}
	return end, r.ReadFields(in[line+2 : end-2])
}

const version = "HTTP/1."

var endless = Limits{Line: MaxResponseHead, Head: MaxResponseHead}

// parseStatusLine reads a status line. The space after the code may be missing, as servers
// often leave it out when there is no phrase.
func parseStatusLine(line []byte, r *message.Response) bool {
	if len(line) < len("HTTP/1.1 200") || !message.IsDigit(line[7]) || line[8] != ' ' {
		return false
	}
	r.Minor = min(line[7]-'0', 1)
	code, phrase := line[9:12], line[12:]
	if len(phrase) > 0 && phrase[0] != ' ' || !message.All(phrase, &message.IsValue) || !message.All(code, &message.IsDigits) || code[0] == '0' {
		return false
	}
	r.Phrase = message.Trim(phrase)
	r.Status = int(code[0]-'0')*100 + int(code[1]-'0')*10 + int(code[2]-'0')
	return true
}

// Framing is how a recipient finds the end of a response's content, RFC 9112 section 6.3.
type Framing uint8

const (
	NoContent Framing = iota // there is no content
	ByLength
	ByChunks
	ToClose // it lasts until the connection ends
)

// FramingOf returns how a response is framed; head says that the request was a HEAD.
func FramingOf(r *message.Response, head bool) Framing {
	switch {
	case head || r.Status < 200 || r.Status == 204 || r.Status == 304 || r.Length == 0:
		return NoContent
	case r.Chunked:
		return ByChunks
	case r.Length > 0:
		return ByLength
	}
	return ToClose
}
