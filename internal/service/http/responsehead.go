package http

import (
	"bytes"

	"reuseportd/internal/service/http/message"
)

// maxResponseHead bounds a response's head, in bytes.
const maxResponseHead = 64 << 10

// parseResponse reads one response head, RFC 9112 section 4, as strictly as parse reads
// requests': what two parsers could read differently is malformed. It returns its
// length; or 0 when it is not complete. Bytes before from were seen by an earlier call.
func parseResponse(in []byte, from int, r *message.Response) (n int, ok bool) {
	*r = message.Response{Length: -1}
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
	if in[line+1] != '\n' || !parseStatusLine(in[:line], r) {
		return 0, false
	}
	return end, r.ReadFields(in[line+2 : end-2])
}

const version = "HTTP/1."

var endless = limits{line: maxResponseHead, head: maxResponseHead}

// parseStatusLine reads a status line. The space behind the code may be missing, as it often
// is when there is no phrase.
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

// framing is how a recipient finds the end of a response's content, RFC 9112 section 6.3.
type framing uint8

const (
	framedNone framing = iota // there is no content
	framedLength
	framedChunks
	framedClose // it ends with the connection
)

// framingOf returns how the response to a request, a HEAD or not, is framed.
func framingOf(r *message.Response, head bool) framing {
	switch {
	case head || r.Status < 200 || r.Status == 204 || r.Status == 304 || r.Length == 0:
		return framedNone
	case r.Chunked:
		return framedChunks
	case r.Length > 0:
		return framedLength
	}
	return framedClose
}
