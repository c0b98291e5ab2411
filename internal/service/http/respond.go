package http

import (
	"strconv"

	"reuseportd/internal/eventloop"
	"reuseportd/internal/service/http/message"
)

// inlineBody is the largest body that is copied behind its head. A larger one is
// sent from where it lies.
const inlineBody = 16 << 10

// answer answers h.req, whose route may be none. last says that no further input has
// been read: only then may a draining loop end the connection with this answer.
func (h *Handler) answer(c *eventloop.Conn, route *route, last bool) {
	r := &h.req
	h.loop.Count().Requests++
	c.CountServed()
	closing := !r.KeepAlive || last && c.Leaving() || h.life.over(c)
	if len(r.Path) == 1 && r.Path[0] == '*' {
		h.ans.reset()
		h.ans.status, h.ans.length = 204, -1
		h.ans.fields = append(h.ans.fields, "Allow: GET, HEAD, OPTIONS\r\n"...)
		h.send(c, closing)
		return
	}
	switch {
	case route == nil:
		h.ans.reset()
		h.ans.fail(404)
		h.send(c, closing)
	case route.respond != nil:
		h.sendFixed(c, route.respond, closing)
	case !known(r.Method):
		h.ans.reset()
		h.ans.fail(501)
		h.send(c, closing)
	case !h.loop.MayOpen():
		h.ans.reset()
		h.ans.fail(503)
		h.send(c, closing)
	default:
		h.ans.reset()
		c.Spend(eventloop.FileWork)
		route.files.plan(r, route.below(r.Path), h.loop.Now(), &h.ans)
		h.send(c, closing)
	}
}

// known tells whether a method is one that a server of files has heard of,
// RFC 9110 section 9 and RFC 5789.
func known(method []byte) bool {
	switch string(method) {
	case "GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE", "TRACE", "PATCH":
		return true
	}
	return false
}

// sendFixed sends what was configured, byte for byte.
func (h *Handler) sendFixed(c *eventloop.Conn, f *respond, closing bool) {
	buf := c.Reserve(len(f.head) + len(f.body) + 128)
	switch {
	case len(f.body) > inlineBody && !h.req.IsHead():
		c.Commit(h.endHead(append(buf, f.head...), closing))
		c.WriteStatic(f.body)
	case closing || h.req.Minor == 0 || h.req.IsHead():
		buf = h.endHead(append(buf, f.head...), closing)
		if !h.req.IsHead() {
			buf = append(buf, f.body...)
		}
		c.Commit(buf)
	default:
		c.Commit(append(buf, h.usual(f)...))
	}
	h.logRequest(c, f.status, int64(len(f.body)))
	h.next(c, closing)
}

// usual returns a fixed answer as nearly all requests for it get it: whole, on a connection
// that lives on. It is put together once a second.
func (h *Handler) usual(f *respond) []byte {
	a := &h.usuals[f.number]
	if date := h.dateField(); a.second != h.second || len(a.whole) == 0 {
		a.second = h.second
		a.whole = append(append(append(append(a.whole[:0], f.head...), date...), "\r\n"...), f.body...)
	}
	return a.whole
}

// usual is such an answer, and the second that its Date is of.
type usual struct {
	whole  []byte
	second int64
}

// endHead appends what differs from one answer to the next: Date, Connection and
// the empty line.
func (h *Handler) endHead(buf []byte, closing bool) []byte {
	return appendConnection(append(buf, h.dateField()...), h.req.Minor, closing)
}

// dateField returns the line that says when this is.
func (h *Handler) dateField() []byte {
	now := h.loop.Now()
	if s := now.Unix(); s != h.second {
		h.second = s
		h.date = append(message.AppendHTTPDate(append(h.date[:0], "Date: "...), now), "\r\n"...)
	}
	return h.date
}

// appendConnection ends a head with what becomes of the connection.
func appendConnection(b []byte, minor byte, closing bool) []byte {
	switch {
	case closing:
		b = append(b, "Connection: close\r\n"...)
	case minor == 0:
		b = append(b, "Connection: keep-alive\r\n"...)
	}
	return append(b, "\r\n"...)
}

// next leaves the connection to its next request, or to its end. It waits for
// the client's side unless the client asked for the end.
func (h *Handler) next(c *eventloop.Conn, closing bool) {
	if closing {
		c.Finish(h.req.KeepAlive)
		return
	}
	h.rest(c)
}

// send sends h.ans.
func (h *Handler) send(c *eventloop.Conn, closing bool) {
	a := &h.ans
	buf := c.Reserve(len(a.fields) + len(a.body) + 256)
	buf = append(buf, "HTTP/1.1 "...)
	buf = strconv.AppendInt(buf, int64(a.status), 10)
	buf = append(buf, ' ')
	buf = append(buf, message.Reason(a.status)...)
	buf = append(buf, "\r\n"+serverField...)
	buf = append(buf, a.fields...)
	if a.length >= 0 {
		buf = append(buf, "Content-Length: "...)
		buf = strconv.AppendInt(buf, a.length, 10)
		buf = append(buf, "\r\n"...)
	}
	buf = h.endHead(buf, closing)
	h.logRequest(c, a.status, max(a.length, 0))
	if h.req.IsHead() {
		closeFD(a.fd)
		c.Commit(buf)
		h.next(c, closing)
		return
	}
	c.Commit(append(buf, a.body...))
	switch {
	case len(a.parts) > 0:
		st := h.state(c)
		st.phase, st.closing = inParts, closing
		st.parts, st.fd, st.tail = append(st.parts[:0], a.parts...), a.fd, a.tail
		h.loop.CountFiles(1)
		c.SetTimeout(0)
		h.nextPart(c, st)
		return
	case a.fd >= 0 && a.n > 0:
		c.SendFile(a.fd, a.off, a.n)
	default:
		closeFD(a.fd)
	}
	a.fd = -1
	h.next(c, closing)
}

// nextPart sends one part of several, or the end.
func (h *Handler) nextPart(c *eventloop.Conn, st *state) {
	if len(st.parts) == 0 {
		c.Write(st.tail)
		closing := st.closing
		h.release(c)
		if closing {
			c.Finish(true)
		} else {
			h.rest(c)
		}
		return
	}
	p := st.parts[0]
	st.parts = st.parts[1:]
	c.Write(p.head)
	fd, err := dup(st.fd)
	if err != nil {
		c.Close() // the promised length can't be kept
		return
	}
	c.SendFile(fd, p.off, p.n)
}

// refuse answers a request that is not to be served and ends the connection, as
// what follows on it can't be told from what was refused.
func (h *Handler) refuse(c *eventloop.Conn, status int) {
	h.loop.Count().Requests++
	h.req.KeepAlive = true // so that next waits for the client
	h.ans.reset()
	h.ans.fail(status)
	h.send(c, true)
}
