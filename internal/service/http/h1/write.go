package h1

import (
	"strconv"

	"reuseportd/internal/service/http/message"
)

// AppendRequest appends the head that a server gets.
func AppendRequest(b []byte, r *message.Request) []byte {
	b = append(append(b, r.Method...), ' ')
	b = append(b, r.Target...)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	b = append(append(b, r.Authority...), "\r\n"...)
	b = append(b, r.Lines...)
	switch {
	case r.Chunked:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	case r.HasLength:
		b = append(b, "Content-Length: "...)
		b = append(strconv.AppendInt(b, r.Length, 10), "\r\n"...)
	}
	b = append(b, r.Told...)
	switch {
	case r.Upgrade:
		b = append(b, "Connection: Upgrade\r\n"...)
	case r.Trailers:
		b = append(b, "TE: trailers\r\nConnection: TE\r\n"...)
	}
	b = append(b, r.Set...)
	return append(b, "\r\n"...)
}

// AppendResponse appends the head that a client gets, without its last lines (see appendConnection).
// framing is how the content is framed for the client; date is a whole field line.
func AppendResponse(b []byte, r *message.Response, framing Framing, date []byte) []byte {
	b = appendStatus(b, r)
	b = append(b, r.Lines...)
	if r.Upgrade && r.Status != 101 {
		b = append(b, "Connection: Upgrade\r\n"...) // RFC 9110 section 7.8 wants it beside Upgrade
	}
	if !r.Local && !r.Dated && r.Status >= 200 {
		b = append(b, date...)
	}
	switch {
	case framing == ByChunks:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	case r.Length >= 0 && r.Status >= 200 && r.Status != 204:
		// Also without content: in the response to a HEAD it is the length that a GET would
		// bring.
		b = appendLength(b, r.Length)
	}
	if r.Status >= 200 {
		if r.Local {
			b = append(b, date...)
		}
		b = append(b, r.Set...)
	}
	return b
}

func appendLength(b []byte, n int64) []byte {
	b = append(b, "Content-Length: "...)
	return append(strconv.AppendInt(b, n, 10), "\r\n"...)
}

func appendStatus(b []byte, r *message.Response) []byte {
	b = append(b, "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(r.Status), 10)
	b = append(b, ' ')
	if len(r.Phrase) > 0 {
		b = append(b, r.Phrase...)
	} else {
		b = append(b, message.Reason(r.Status)...)
	}
	return append(b, "\r\n"...)
}

// appendConnection appends the Connection field, if one is needed, and the empty line.
func appendConnection(b []byte, minor byte, closing bool) []byte {
	switch {
	case closing:
		b = append(b, "Connection: close\r\n"...)
	case minor == 0:
		b = append(b, "Connection: keep-alive\r\n"...)
	}
	return append(b, "\r\n"...)
}

// Encoder writes a body in the chunked coding.
type Encoder struct {
	Last bool // the last chunk has been written
}

// Data appends a chunk.
func (e *Encoder) Data(b, data []byte) []byte {
	if len(data) == 0 { // an empty chunk would be the last one
		return b
	}
	b = strconv.AppendUint(b, uint64(len(data)), 16)
	b = append(b, "\r\n"...)
	b = append(b, data...)
	return append(b, "\r\n"...)
}

// Trailer appends a trailer field, after the last chunk if that hasn't been written.
// Without a name it appends the last chunk only.
func (e *Encoder) Trailer(b, name, value []byte) []byte {
	if !e.Last {
		e.Last = true
		b = append(b, "0\r\n"...)
	}
	if len(name) > 0 {
		b = message.AppendField(b, name, value)
	}
	return b
}

// End appends what is missing of the last chunk and the trailer section.
func (e *Encoder) End(b []byte) []byte { return append(e.Trailer(b, nil, nil), "\r\n"...) }
