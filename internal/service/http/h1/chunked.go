package h1

import (
	"bytes"

	"reuseportd/internal/service/http/message"
)

// Chunks reads a chunked body, RFC 9112 section 7.1.
type Chunks struct {
	Step  ChunkStep
	Left  int64 // of the chunk's data
	Total int64 // data bytes so far
	Lines int   // bytes of trailer section and extensions so far
	lined int   // lines read since the last call of Work
}

// ChunkStep is the part of a chunked body that comes next.
type ChunkStep uint8

const (
	AtSize ChunkStep = iota // before a line with a size
	InData
	AtEnd // before the CRLF behind the data
	InTrailer
	Done
)

// lineWork is the cost of a line, in the event loop's unit of work. The bytes of a chunk cost
// nothing beside it.
const lineWork = 256

// Work returns the work done since its last call, without that of moving bytes.
func (k *Chunks) Work() int {
	n := k.lined * lineWork
	k.lined = 0
	return n
}

// maxChunkLine bounds a size with its extensions, and each trailer field, in bytes.
const maxChunkLine = 1 << 10

// maxChunkDigits bounds a chunk's size so that it can't overflow.
const maxChunkDigits = 15

// Discard consumes input up to the body's end. It returns the number of bytes, and 0 or
// the status with which the body is to be refused.
func (k *Chunks) Discard(in []byte, lim Limits) (n, status int) {
	for {
		m, piece, status := k.Next(in[n:], lim)
		if n += m; piece == nil || status != 0 {
			return n, status
		}
	}
}

// Next consumes input up to the end of the next piece of the body. A piece is as much of a
// chunk's data as is there, or, if k.Step is InTrailer after the call, one line of the trailer
// section without its CRLF; the first such line is empty and marks the end of the data. The
// piece is nil if more input is needed, and at the end of the body.
func (k *Chunks) Next(in []byte, lim Limits) (n int, piece []byte, status int) {
	for k.Step != Done {
		rest := in[n:]
		if k.Step == InData {
			take := int(min(k.Left, int64(len(rest))))
			if k.Left -= int64(take); k.Left == 0 {
				k.Step = AtEnd
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
		line, trailer := rest[:end-1], k.Step == InTrailer
		if status := k.line(line, lim); status != 0 {
			return n, nil, status
		}
		if k.Step == InTrailer {
			if !trailer {
				line = line[:0]
			}
			return n, line, 0
		}
	}
	return n, nil, 0
}

// hopeless reports whether the beginning of a line can't become a good one.
func (k *Chunks) hopeless(part []byte) bool {
	switch {
	case len(part) == 0:
		return false
	case k.Step == AtEnd && part[0] != '\r', k.Step == AtSize && message.Unhex(part[0]) > 15:
		return true
	}
	return bareEnd(part, 0)
}

// line parses a line, given without its CRLF.
func (k *Chunks) line(line []byte, lim Limits) int {
	switch k.Step {
	case AtEnd:
		k.Step = AtSize
		if len(line) > 0 {
			return 400
		}
	case AtSize:
		if lim.Blanks {
			line = message.TrimRight(line)
		}
		size, ok := parseChunkSize(line)
		if !ok {
			return 400
		}
		if k.Total += size; k.Total > lim.Body {
			return 413
		}
		// Otherwise a client could make us read a thousand times max_body, with chunks of one
		// byte that each carry an extension of a kilobyte.
		if k.Lines += max(0, len(line)-maxChunkDigits); k.Lines > lim.Head {
			return 431
		}
		k.Left, k.Step = size, InData
		if size == 0 {
			k.Step = InTrailer
		}
	case InTrailer:
		if len(line) == 0 {
			k.Step = Done
			return 0
		}
		if k.Lines += len(line); k.Lines > lim.Head {
			return 431
		}
		colon := bytes.IndexByte(line, ':')
		if colon <= 0 || !message.All(line[:colon], &message.IsToken) || !message.All(line[colon+1:], &message.IsValue) {
			return 400
		}
	}
	return 0
}

// parseChunkSize reads hexadecimal digits and the extensions behind them. Extensions are
// ignored, but their bytes must be such as a field value may have.
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
