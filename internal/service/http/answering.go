package http

import (
	"reuseportd/internal/eventloop"
	"reuseportd/internal/service/http/h1"
	"reuseportd/internal/service/http/message"
	"reuseportd/internal/upstream"
)

// receive takes input from a server, and returns how much of it.
func (h *Handler) receive(x *exchange, in []byte) (n int) {
	x.in += uint64(len(in) - x.scan)
	x.begun = true
	for x.phase == beforeHead {
		r := &h.resp
		k, ok := h1.ParseResponse(in[n:], x.scan, r)
		var opts message.Options
		if ok && k > 0 {
			opts, ok = h.optionsOf(r.Lines, r.MoreOptions)
		}
		switch {
		// A tunnel begins where the request has ended: what is left of a body would be read
		// as the new protocol.
		case !ok, k > 0 && r.Status == 101 && !(x.upgrade && r.Upgrade && x.sent):
			h.failed(x, upstream.Malformed)
			return len(in)
		case k == 0:
			x.scan = len(in) - n
			x.link.conn.SetTimeout(x.to.patience)
			return n
		}
		n, x.scan = n+k, 0
		switch {
		case r.Status == 101:
			h.tunnel(x, opts)
			return n
		case r.Status >= 200:
			return n + h.begin(x, opts, in[n:])
		case x.minor == 1:
			buf := x.client.Reserve(k + 64)
			x.client.Commit(append(x.to.appendResponse(buf, r, &reply{opts: opts}), "\r\n"...))
			u := x.link.conn
			if x.client.Push(); x.link == nil || x.link.conn != u {
				return len(in)
			}
			u.SetTimeout(x.to.patience)
			if x.client.HasOutput() {
				u.WaitFor(x.client) // who floods it with these doesn't flood us
				return n
			}
		}
	}
	return h.content(x, in)
}

// optionsOf reads the options of a message, of which there are so many that are to be known.
func (h *Handler) optionsOf(lines []byte, n int) (o message.Options, ok bool) {
	if n == 0 {
		return nil, true
	}
	h.opts, ok = h.opts.Read(lines)
	return h.opts, ok
}

// begin passes on the head in h.resp, together with what has come of the content: one
// write for both. It returns how much of that it took.
func (h *Handler) begin(x *exchange, opts message.Options, in []byte) (n int) {
	r := &h.resp
	x.pool.chooser.Succeeded(x.server, h.loop.Monotonic())
	x.phase, x.status = inContent, r.Status
	x.framing = h1.FramingOf(r, x.method == "HEAD")
	x.reuse = r.KeepAlive && x.framing != h1.ToClose
	x.left = r.Length
	y := reply{framing: x.framing, opts: opts, date: h.dateField()}
	if x.framing >= h1.ByChunks {
		if y.framing = h1.ByChunks; x.minor == 0 {
			y.framing, x.bare = h1.ToClose, true
		}
	}
	// Whose request isn't read to its end can't begin another.
	x.closing = !x.keeps || !x.sent || x.bare || x.last && x.client.Leaving() || h.life.over(x.client)
	buf := x.client.Reserve(len(r.Lines) + len(x.to.response.set) + min(len(in), maxHeld) + 320)
	buf = x.to.appendResponse(buf, r, &y)
	buf = appendConnection(buf, x.minor, x.closing)
	buf, n, done, ok := x.appendContent(buf, in, h)
	x.client.Commit(buf)
	x.client.Spend(x.chunks.Work())
	h.pass(x, done, ok, n == len(in))
	return n
}

// content passes on what has come of a response's content.
func (h *Handler) content(x *exchange, in []byte) int {
	if x.phase == inTunnel {
		return 0
	}
	buf, n, done, ok := x.appendContent(x.client.Reserve(len(in)+64), in, h)
	x.client.Commit(buf)
	h.pass(x, done, ok, n == len(in))
	return n
}

// appendContent appends what has come of the content as the client is to get it. done
// says that this is all; ok is false if the coding is malformed.
func (x *exchange) appendContent(buf, in []byte, h *Handler) (grown []byte, n int, done, ok bool) {
	switch x.framing {
	case h1.NoContent:
		return buf, 0, true, true
	case h1.ByLength:
		n = int(min(x.left, int64(len(in))))
		x.left -= int64(n)
		x.content += int64(n)
		return append(buf, in[:n]...), n, x.left == 0, true
	case h1.ToClose:
		x.content += int64(len(in))
		if x.bare {
			return append(buf, in...), len(in), false, true
		}
		return appendChunk(buf, in), len(in), false, true
	}
	var status int
	before := x.chunks.Total - x.chunks.Left
	buf, n, status = recode(&x.chunks, buf, in, boundless, &x.to.response, x.bare)
	x.content += x.chunks.Total - x.chunks.Left - before
	return buf, n, x.chunks.Step == h1.Done, status == 0
}

// boundless is what a server's chunked body is held to.
var boundless = h1.Limits{Head: h1.MaxResponseHead, Body: 1<<63 - 1, Blanks: true}

// pass has the client get what was queued, and sees to what comes then. clean says that
// nothing came behind it.
func (h *Handler) pass(x *exchange, done, ok, clean bool) {
	u := x.link.conn
	switch {
	case !ok:
		h.failed(x, upstream.Malformed)
	case done:
		h.complete(x, clean)
	default:
		if x.client.Push(); x.link == nil || x.link.conn != u {
			return
		}
		u.SetTimeout(x.to.patience)
		switch {
		case x.framing == h1.ByLength:
			u.Pass(x.left)
		case x.framing == h1.ToClose && x.bare:
			u.Pass(-1)
		default:
			u.WaitFor(x.client)
		}
	}
}

// ended is called at the end of what a server sends.
func (h *Handler) ended(x *exchange) {
	switch {
	case x.phase == inTunnel:
		h.tunnelEnded(x, x.link.conn, x.client)
	case x.phase == inContent && x.framing == h1.ToClose:
		if !x.bare {
			x.client.Write([]byte("0\r\n\r\n"))
		}
		h.complete(x, false)
	default:
		h.failed(x, upstream.ClosedEarly)
	}
}

// complete ends an exchange whose response has been passed on whole. clean says that
// the server has sent nothing behind it.
func (h *Handler) complete(x *exchange, clean bool) {
	c, l := x.client, x.link
	x.content += int64(l.conn.Passed())
	h.logExchange(x)
	reuse := x.reuse && x.sent && clean && !l.conn.HasEnded() && !l.conn.HasOutput()
	closing, linger := x.closing || !x.sent, x.keeps || !x.sent
	h.part(x)
	if reuse {
		l.pool.put(l)
	} else {
		l.conn.Close()
	}
	h.idle(c, closing, linger)
}

// idle has a client's connection wait for its next request, or end, when its exchange
// has ended and what it is to get is queued.
func (h *Handler) idle(c *eventloop.Conn, closing, linger bool) {
	h.letClient(c)
	if closing {
		c.Finish(linger)
		c.Wake()
	}
	c.SetBusy(false)
	c.Push()
}

// letClient ends what an exchange has done to its client's connection. That may have had a
// deadline, which nothing puts off: it has the common timeouts again, also if it is to end.
func (h *Handler) letClient(c *eventloop.Conn) {
	h.release(c)
	c.Duplex(false)
	h.rest(c)
	c.Release()
}

// part takes an exchange's server away from it. Its connection is not touched.
func (h *Handler) part(x *exchange) {
	if x.link != nil {
		x.unlink()
	}
	if x.server != nil {
		x.server.AddBytes(x.in, x.out)
		x.pool.chooser.Done(x.server)
		x.server = nil
	}
}

// unlink parts an exchange from its connection to a server.
func (x *exchange) unlink() {
	l := x.link
	x.in += l.conn.Passed()
	x.out += x.client.Passed()
	x.h.loop.Part(l.conn)
	l.x, x.link = nil, nil
}

func (h *Handler) logExchange(x *exchange) {
	if h.log == nil {
		return
	}
	h.recallOf(x)
	h.logRequest(x.client, x.status, x.content)
}
