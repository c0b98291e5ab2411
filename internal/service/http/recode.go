package http

import (
	"strconv"

	"reuseportd/internal/service/http/h1"
	"reuseportd/internal/service/http/message"
)

// recode appends a chunked body as it comes, in chunks of our own: one for each
// piece that is there, so that nothing waits for what is still to come. Of the
// coding that came nothing is copied but data and the fields of the trailer
// section, and of those only the ones that edit and isTrailer let through. With
// bare, no coding is written: the end of the connection is the body's.
//
// It returns how much of the input was consumed, and what discard would.
func recode(k *h1.Chunks, out, in []byte, lim h1.Limits, e *edit, bare bool) (grown []byte, n, status int) {
	for {
		m, piece, status := k.Next(in[n:], lim)
		n += m
		if status != 0 {
			return out, n, status
		}
		ending := k.Step >= h1.InTrailer
		switch {
		case bare && !ending:
			out = append(out, piece...)
		case bare:
		case !ending && piece != nil:
			out = appendChunk(out, piece)
		case ending:
			if !k.Last {
				k.Last = true
				out = append(out, "0\r\n"...)
			}
			if piece != nil {
				out = e.appendTrailer(out, piece)
			}
			if k.Step == h1.Done {
				out = append(out, "\r\n"...)
			}
		}
		if piece == nil {
			return out, n, 0
		}
	}
}

// appendChunk appends one chunk, unless it would be the last one.
func appendChunk(out, data []byte) []byte {
	if len(data) == 0 {
		return out
	}
	out = strconv.AppendUint(out, uint64(len(data)), 16)
	out = append(out, "\r\n"...)
	out = append(out, data...)
	return append(out, "\r\n"...)
}

// appendTrailer appends a good field line of a trailer section, if it may go through.
func (e *edit) appendTrailer(out, line []byte) []byte {
	colon := 0
	for line[colon] != ':' {
		colon++
	}
	if name := line[:colon]; message.IsTrailer(name) && !e.takes(name) {
		out = message.AppendField(out, name, message.Trim(line[colon+1:]))
	}
	return out
}
