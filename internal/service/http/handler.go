package http

import (
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/eventloop"
	"reuseportd/internal/service/http/accesslog"
	"reuseportd/internal/service/http/h1"
	"reuseportd/internal/service/http/message"
)

// Handler is the HTTP service of one event loop. Between calls it holds nothing
// of a request; its fields are room that is used again.
type Handler struct {
	loop *eventloop.Loop
	site *Site
	log  *accesslog.Writer // nil if there is no access log

	// fresh and keepalive are of connections that nothing was read from, or nothing since the last
	// answer: they make room for others where that is needed.
	fresh, header, body, keepalive eventloop.Class
	quiet                          eventloop.Class // of tunnels
	life                           lifetime

	req     message.Request
	ans     answer
	scratch []byte  // decoded paths and lowered hosts
	date    []byte  // "Date: …\r\n", renewed once a second
	second  int64   // that date is of
	usuals  []usual // as respond.number counts them
	free    eventloop.Spare[*state]

	// Of requests that are passed on.
	passages  []passage // as route.proxy numbers them
	resp      message.Response
	opts      message.Options
	peers     map[*eventloop.Conn]netip.Addr // of clients whose requests are passed on
	exchanges eventloop.Spare[*exchange]     // room that is used again
}

// NewService makes the service of a site for a loop, whose pools of the upstreams that the
// site names are given by name; and that of the connections to servers that come from another
// process together with a client's.
func NewService(l *eventloop.Loop, s *Site, pools map[string]*Pool) *eventloop.Service {
	clients := l.NewService(newHandler(l, s, pools), s.conf.WriteTimeout)
	clients.SetMinRate(s.conf.MinRate)
	clients.SetUpstreams(l.NewService(&ends{pools: pools}, sendTimeout))
	return clients
}

func newHandler(l *eventloop.Loop, s *Site, pools map[string]*Pool) *Handler {
	h := &Handler{
		loop: l, site: s,
		fresh:     l.SpareClass(s.conf.HeaderTimeout, freshGrace),
		header:    l.Class(s.conf.HeaderTimeout),
		body:      l.Class(s.conf.BodyTimeout),
		keepalive: l.SpareClass(s.conf.KeepaliveTimeout, 0),
		quiet:     l.Class(s.conf.TunnelTimeout),
		scratch:   make([]byte, 0, 1024),
		second:    -1,
		peers:     make(map[*eventloop.Conn]netip.Addr),
	}
	h.life = newLifetime(l, s.conf.MaxRequests, s.conf.MaxLifetime, max(s.conf.KeepaliveTimeout, s.conf.HeaderTimeout))
	l.OnTrim(h.trim)
	h.log = s.log.Writer()
	h.usuals = make([]usual, s.responds)
	for _, p := range s.proxies {
		h.passages = append(h.passages, passage{
			proxy: p, pool: pools[p.conf.Upstream],
			patience: l.Class(p.conf.ResponseTimeout), total: l.Class(p.conf.TotalTimeout),
		})
	}
	return h
}

// Opened waits for a first request.
func (h *Handler) Opened(c *eventloop.Conn) { h.life.wait(c, h.fresh, h.site.conf.HeaderTimeout) }

// freshGrace is how long a connection has for its first byte before another may have its place.
const freshGrace = time.Second

// Received answers the requests in the input, as many as there are and its share allows.
func (h *Handler) Received(c *eventloop.Conn, in []byte) int {
	n := 0
	for n < len(in) && !c.Finishing() {
		var used int
		st, busy := c.State.(*state)
		if c.Congested() && !(busy && st.phase == inExchange) {
			return n
		}
		switch {
		case busy && st.phase == inBody:
			used = h.readBody(c, st, in[n:])
		case busy && st.phase == inParts:
			return n
		case busy && st.phase == inExchange:
			used = h.forwardBody(c, st.x, in[n:])
		default:
			used = h.readHead(c, in[n:])
		}
		if used == 0 {
			break
		}
		n += used
		if !c.Spend(eventloop.RequestWork) {
			break // others have their turns
		}
	}
	return n
}

// headWork is what a byte of a head takes, as work of the event loop: in the worst case, of fields of
// a byte each, it is three times that.
const headWork = 8

// readHead answers one request, if its head is complete.
func (h *Handler) readHead(c *eventloop.Conn, in []byte) int {
	from := 0
	st, partial := c.State.(*state)
	if partial {
		from = st.scan
	}
	n, status := h1.ParseRequest(in, from, h.site.limit, &h.req, &h.scratch)
	switch {
	case status != 0:
		h.refuse(c, status)
		return len(in)
	case n == 0:
		if !partial {
			st = h.state(c)
			st.phase = inHead
			c.SetTimeout(h.header) // from the first byte on, not from the latest
		}
		st.scan, st.blank = len(in), len(in) <= 2 && in[0] == '\r'
		return 0
	}
	if partial {
		h.release(c)
	}
	c.Spend(n * headWork)
	switch {
	case h.req.Length > h.site.limit.Body:
		h.refuse(c, 413)
		return len(in)
	}
	route := h.site.find(&h.req)
	switch {
	case route != nil && route.proxy != nil && h.site.ambiguous(&h.req, route, &h.scratch):
		h.refuse(c, 400)
		return len(in)
	case route != nil && route.proxy != nil:
		return h.forward(c, &h.passages[route.proxy.number], in, n)
	case h.req.Chunked || h.req.Length > int64(len(in)-n):
		h.expectBody(c, in[:n])
		return n
	}
	n += int(h.req.Length)
	h.answer(c, route, n == len(in))
	return n
}

// expectBody keeps a head until the body that it announces has gone by.
func (h *Handler) expectBody(c *eventloop.Conn, head []byte) {
	st := h.state(c)
	st.phase, st.head = inBody, append(st.head[:0], head...)
	h.chargeHeads(st)
	st.length, st.body = h.req.Length, h1.Chunks{}
	if h.req.Chunked {
		st.length = -1
	}
	if h.req.Expect {
		c.Write([]byte("HTTP/1.1 100 Continue\r\n\r\n"))
	}
	c.Await(&st.pace)
	c.SetTimeout(h.body)
}

// readBody throws a body away and answers when it has ended.
func (h *Handler) readBody(c *eventloop.Conn, st *state, in []byte) int {
	var n int
	if st.length >= 0 {
		n = int(min(st.length, int64(len(in))))
		st.length -= int64(n)
	} else {
		var status int
		n, status = st.body.Discard(in, h.site.limit)
		if c.Spend(st.body.Work()); status != 0 {
			h.recall(st)
			h.refuse(c, status)
			return len(in)
		}
	}
	if st.length > 0 || st.length < 0 && st.body.Step != h1.Done {
		if !c.KeepsUp(&st.pace, n) {
			h.loop.Count().Slow++
			h.recall(st)
			h.refuse(c, 408)
			return len(in)
		}
		c.SetTimeout(h.body)
		return n
	}
	h.recall(st)
	c.State = nil // the request's slices lie in st.head: it is released after use
	h.answer(c, h.site.find(&h.req), n == len(in))
	if next, ok := c.State.(*state); ok && next.phase == inParts {
		h.charge(st, 0) // it is nobody's now; part of the answer may refer to its head
		return n
	}
	c.State = st
	h.release(c)
	return n
}

// recall parses a kept head once more.
func (h *Handler) recall(st *state) {
	h1.ParseRequest(st.head, 0, h.site.limit, &h.req, &h.scratch)
}

// Flushed goes on with an answer in several parts.
func (h *Handler) Flushed(c *eventloop.Conn) {
	if st, ok := c.State.(*state); ok && st.phase == inParts {
		h.nextPart(c, st)
	}
}

// Ended closes the connection: no further request can come. What was answered is
// still written.
func (h *Handler) Ended(c *eventloop.Conn) {
	st, ok := c.State.(*state)
	switch {
	case ok && st.phase == inParts:
		st.closing = true
	case ok && st.phase == inExchange:
		h.clientEnded(c, st.x)
	default:
		c.Finish(false)
	}
}

// TimedOut ends a connection on which a request did not arrive in time: with 408
// if part of one did, else without a word.
func (h *Handler) TimedOut(c *eventloop.Conn) {
	st, ok := c.State.(*state)
	switch {
	case !ok && c.Congested():
		c.SetTimeout(h.keepalive) // an answer is still on its way
	case !ok && h.life.waitsOn(c):
	case !ok, st.phase == inHead && st.blank:
		c.Finish(true)
	case st.phase == inHead:
		h.req = message.Request{Minor: 1}
		h.refuse(c, 408)
	case st.phase == inBody:
		h.recall(st)
		h.refuse(c, 408)
	case st.phase == inExchange:
		h.clientTimedOut(st.x)
	}
}

// Passed is called when the last of a request's body has gone by.
func (h *Handler) Passed(c *eventloop.Conn) {
	if st, ok := c.State.(*state); ok && st.phase == inExchange {
		st.x.last = !c.HasInput()
		h.requestDone(st.x)
	}
}

// Closed lets go of the connection's state.
func (h *Handler) Closed(c *eventloop.Conn) {
	if len(h.peers) > 0 {
		delete(h.peers, c) // first: the next one of its kind has another address
	}
	if st, ok := c.State.(*state); ok && st.phase == inExchange {
		h.clientClosed(st.x, h.loop.Cause())
	}
	h.release(c)
}

func closeFD(fd int) {
	if fd >= 0 {
		_ = unix.Close(fd)
	}
}

// logRequest adds a line for h.req, if there is a log.
func (h *Handler) logRequest(c *eventloop.Conn, status int, size int64) {
	if h.log != nil {
		h.loop.Count().LogDropped += h.log.Request(&h.req, c.Remote(), h.loop.Now(), status, size)
	}
}
