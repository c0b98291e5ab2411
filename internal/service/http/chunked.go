package http

import (
	"bytes"

	"reuseportd/internal/service/http/message"
)

// chunks reads a chunked body, RFC 9112 section 7.1.
type chunks struct {
	step  chunkStep
	left  int64 // of the chunk's data
	total int64 // data bytes so far
	lines int   // bytes of trailer section and extensions so far
	last  bool  // recode has written the last chunk
	lined int   // lines read since work was called
}

type chunkStep uint8

const (
	chunkSize chunkStep = iota // before a line with a size
	chunkData
	chunkEnd // before the CRLF behind the data
	chunkTrailer
	chunkDone
)

// lineWork is what a line takes, as work of the event loop: bytes of a chunk cost nothing beside it.
const lineWork = 256

// work returns the work that was done since it was last called, beyond that of moving bytes.
func (k *chunks) work() int {
	n := k.lined * lineWork
	k.lined = 0
	return n
}

// maxChunkLine bounds a size with its extensions, and each trailer field, in bytes.
const maxChunkLine = 1 << 10

// maxChunkDigits bounds a chunk's size so that it can't overflow.
const maxChunkDigits = 15

// discard consumes input up to the body's end. It returns how much, and the
// status of the answer that refuses the body, or 0.
func (k *chunks) discard(in []byte, lim limits) (n, status int) {
	for {
		m, piece, status := k.next(in[n:], lim)
		if n += m; piece == nil || status != 0 {
			return n, status
		}
	}
}

// next consumes input up to the end of the next piece of the body: what there is
// of a chunk's data, or a trailer field's line, without CRLF, if k.step is
// chunkTrailer behind it. The piece is nil when more input is needed, and when the
// body has ended.
func (k *chunks) next(in []byte, lim limits) (n int, piece []byte, status int) {
	for k.step != chunkDone {
		rest := in[n:]
		if k.step == chunkData {
			take := int(min(k.left, int64(len(rest))))
			if k.left -= int64(take); k.left == 0 {
				k.step = chunkEnd
			}
			if take == 0 {
				return n, nil, 0
			}
			return n + take, rest[:take], 0
		}
		end := bytes.IndexByte(rest, '\n')
		if end < 0 {
			if len(rest) > maxChunkLine || k.hopeless(rest) {
				return n, nil, 400
			}
			return n, nil, 0
		}
		if end == 0 || rest[end-1] != '\r' || end > maxChunkLine {
			return n, nil, 400
		}
		n += end + 1
		k.lined++
		line, trailer := rest[:end-1], k.step == chunkTrailer
		if status := k.line(line, lim); status != 0 {
			return n, nil, status
		}
		if trailer && k.step == chunkTrailer {
			return n, line, 0
		}
	}
	return n, nil, 0
}

// hopeless reports whether the beginning of a line can't become a good one.
func (k *chunks) hopeless(part []byte) bool {
	switch {
	case len(part) == 0:
		return false
	case k.step == chunkEnd && part[0] != '\r', k.step == chunkSize && message.Unhex(part[0]) > 15:
		return true
	}
	return bareEnd(part, 0)
}

// line takes a line without its CRLF.
func (k *chunks) line(line []byte, lim limits) int {
	switch k.step {
	case chunkEnd:
		k.step = chunkSize
		if len(line) > 0 {
			return 400
		}
	case chunkSize:
		if lim.blanks {
			line = message.TrimRight(line)
		}
		size, ok := parseChunkSize(line)
		if !ok {
			return 400
		}
		if k.total += size; k.total > lim.body {
			return 413
		}
		// Else a client could have a thousand times max_body read: chunks of one
		// byte, each with an extension of a kilobyte.
		if k.lines += max(0, len(line)-maxChunkDigits); k.lines > lim.head {
			return 431
		}
		k.left, k.step = size, chunkData
		if size == 0 {
			k.step = chunkTrailer
		}
	case chunkTrailer:
		if len(line) == 0 {
			k.step = chunkDone
			return 0
		}
		if k.lines += len(line); k.lines > lim.head {
			return 431
		}
		colon := bytes.IndexByte(line, ':')
		if colon <= 0 || !message.All(line[:colon], &message.IsToken) || !message.All(line[colon+1:], &message.IsValue) {
			return 400
		}
	}
	return 0
}

// parseChunkSize reads hexadecimal digits, then extensions, which are ignored as
// far as their bytes could stand in a field value.
func parseChunkSize(line []byte) (size int64, ok bool) {
	digits := 0
	for digits < len(line) && message.Unhex(line[digits]) < 16 {
		if digits == maxChunkDigits {
			return 0, false
		}
		size = size<<4 | int64(message.Unhex(line[digits]))
		digits++
	}
	if digits == 0 {
		return 0, false
	}
	extension := line[digits:]
	if len(extension) == 0 {
		return size, true
	}
	extension = message.Trim(extension)
	if len(extension) == 0 || extension[0] != ';' {
		return 0, false
	}
	return size, message.All(extension, &message.IsValue)
}
