package files

import (
	"bytes"
	"math"
	"math/rand/v2"
	"strconv"

	"reuseportd/internal/service/http/message"
)

// maxRanges bounds the ranges of one request. With more, or with more bytes than
// the file has, the field is ignored (RFC 9110 section 14.2).
const maxRanges = 16

// span is a range of a file, in bytes; n is at least 1.
type span struct{ off, n int64 }

// parseRanges reads a Range field, RFC 9110 section 14.1.2, and appends the ranges that
// lie in the file. No span at all means: send the whole file. It returns false if the
// field is valid but none of its ranges lies in the file.
func parseRanges(field []byte, size int64, spans []span) (_ []span, ok bool) {
	const unit = "bytes="
	if size == 0 || len(field) <= len(unit) || !message.Same(field[:len(unit)], unit) {
		return nil, true
	}
	total, outside := int64(0), false
	for list := field[len(unit):]; len(list) > 0; {
		var one []byte
		one, list, _ = bytes.Cut(list, comma)
		if one = message.Trim(one); len(one) == 0 {
			continue
		}
		s, ok := parseRange(one, size)
		switch {
		case !ok:
			return nil, true
		case s.n == 0:
			outside = true
			continue
		case len(spans) == maxRanges:
			return nil, true
		}
		spans = append(spans, s)
		total += s.n
	}
	if total > size {
		return nil, true
	}
	return spans, len(spans) > 0 || !outside
}

var (
	comma  = []byte(",")
	hyphen = []byte("-")
)

// parseRange reads "first-last", "first-" or "-suffix". n is 0 if nothing of the range
// lies in the file.
func parseRange(v []byte, size int64) (s span, ok bool) {
	first, last, found := bytes.Cut(v, hyphen)
	if !found {
		return s, false
	}
	if len(first) == 0 {
		n, ok := position(last)
		n = min(n, size)
		return span{size - n, n}, ok
	}
	from, ok := position(first)
	to := int64(math.MaxInt64)
	if ok && len(last) > 0 {
		to, ok = position(last)
	}
	switch {
	case !ok || to < from:
		return s, false
	case from >= size:
		return s, true
	}
	return span{from, min(to, size-1) - from + 1}, true
}

// position reads digits. All positions beyond any file's end are equivalent.
func position(v []byte) (n int64, ok bool) {
	for _, c := range v {
		if !message.IsDigit(c) {
			return 0, false
		}
		if n > (math.MaxInt64-9)/10 {
			n = math.MaxInt64
			continue
		}
		n = 10*n + int64(c-'0')
	}
	return n, len(v) > 0
}

// appendContentRange appends a Content-Range field, without its CRLF.
func appendContentRange(b []byte, s span, size int64) []byte {
	b = strconv.AppendInt(append(b, "Content-Range: bytes "...), s.off, 10)
	b = strconv.AppendInt(append(b, '-'), s.off+s.n-1, 10)
	return strconv.AppendInt(append(b, '/'), size, 10)
}

// unsatisfiable answers 416 with the file's size.
func (a *answer) unsatisfiable(size int64) {
	a.fail(416)
	a.fields = strconv.AppendInt(append(a.fields, "Content-Range: bytes */"...), size, 10)
	a.fields = append(a.fields, "\r\n"...)
}

// severalParts answers with multipart/byteranges, RFC 9110 section 14.6.
func (a *answer) severalParts(spans []span, size int64, kind string) {
	boundary := strconv.AppendUint(strconv.AppendUint(nil, rand.Uint64(), 36), rand.Uint64(), 36)
	a.status, a.length = 206, 0
	a.fields = append(append(a.fields, "Accept-Ranges: bytes\r\nContent-Type: multipart/byteranges; boundary="...), boundary...)
	a.fields = append(a.fields, "\r\n"...)
	for _, s := range spans {
		head := append(append([]byte("\r\n--"), boundary...), "\r\nContent-Type: "+kind+"\r\n"...)
		head = append(appendContentRange(head, s, size), "\r\n\r\n"...)
		a.parts = append(a.parts, part{head, s.off, s.n})
		a.length += int64(len(head)) + s.n
	}
	a.tail = append(append([]byte("\r\n--"), boundary...), "--\r\n"...)
	a.length += int64(len(a.tail))
}
