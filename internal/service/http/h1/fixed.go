package h1

import (
	"reuseportd/internal/service/http/message"
	"reuseportd/internal/service/http/stream"
)

// form is a fixed answer as it is sent.
type form struct {
	of     *stream.Fixed // the form is valid for this answer alone
	head   []byte        // status line to Content-Length, without Date and Connection
	whole  []byte        // the bytes for an ordinary request on a connection that is kept
	second int64         // of its Date, in Unix time
}

// inlineBody is the largest body, in bytes, that is copied behind its head. A larger one is sent from
// where it lies.
const inlineBody = 16 << 10

// Fixed implements stream.Stream.
func (s *Stream) Fixed(f *stream.Fixed) {
	h, c := s.h, s.c
	if f.Number >= len(h.fixed) {
		h.fixed = append(h.fixed, make([]form, f.Number+1-len(h.fixed))...)
	}
	a := &h.fixed[f.Number]
	if a.of != f {
		*a = form{of: f, head: appendFixed(nil, &f.Head), whole: a.whole[:0]}
	}
	s.status = f.Head.Status
	s.close(false)
	buf := c.Reserve(len(a.head) + len(f.Body) + 128)
	switch {
	case len(f.Body) > inlineBody && !s.isHead:
		c.Commit(h.endHead(append(buf, a.head...), s))
		c.WriteStatic(f.Body)
	case s.closing || s.minor == 0 || s.isHead:
		buf = h.endHead(append(buf, a.head...), s)
		if !s.isHead {
			buf = append(buf, f.Body...)
		}
		c.Commit(buf)
	default:
		c.Commit(append(buf, h.whole(a, f)...))
	}
	s.log(int64(len(f.Body)))
	s.finish()
}

// whole returns the bytes of a fixed answer for an ordinary request. They are put together once a
// second.
func (h *Handler) whole(a *form, f *stream.Fixed) []byte {
	if date := h.dateField(); a.second != h.second || len(a.whole) == 0 {
		a.second = h.second
		a.whole = append(append(append(append(a.whole[:0], a.head...), date...), "\r\n"...), f.Body...)
	}
	return a.whole
}

// endHead appends what differs from one answer to the next: Date, Connection and the empty line.
func (h *Handler) endHead(buf []byte, s *Stream) []byte {
	return appendConnection(append(buf, h.dateField()...), s.minor, s.closing)
}

// dateField returns the Date field of the current second.
func (h *Handler) dateField() []byte {
	now := h.loop.Now()
	if s := now.Unix(); s != h.second {
		h.second = s
		h.date = append(message.AppendHTTPDate(append(h.date[:0], "Date: "...), now), "\r\n"...)
	}
	return h.date
}

// appendFixed appends a head without Date and Connection.
func appendFixed(b []byte, r *message.Response) []byte {
	b = append(appendStatus(b, r), r.Lines...)
	if r.Length >= 0 {
		b = appendLength(b, r.Length)
	}
	return b
}
