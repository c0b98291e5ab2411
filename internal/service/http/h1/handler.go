package h1

import (
	"net/netip"
	"time"

	"reuseportd/internal/eventloop"
	"reuseportd/internal/service/http/accesslog"
	"reuseportd/internal/service/http/message"
	"reuseportd/internal/service/http/stream"
)

// Site finds out who answers a request.
type Site interface {
	// Find returns the route of a request, or the status with which it is to be refused.
	Find(r *message.Request) (route stream.Route, status int)
}

// Config is what a Handler needs to know.
type Config struct {
	Limits                                       Limits
	HeaderTimeout, BodyTimeout, KeepaliveTimeout time.Duration
	MaxRequests                                  int           // on a connection; 0: no bound
	MaxLifetime                                  time.Duration // of one; 0: no bound
	Log                                          *accesslog.Writer
}

// Handler is the clients' side of HTTP/1 in one event loop. Between two calls it holds nothing of a
// request; its fields are buffers that are reused.
type Handler struct {
	loop *eventloop.Loop
	conf Config
	site Site
	log  *accesslog.Writer // nil if there is no access log

	// fresh is the timeout of connections from which nothing has been read, keepalive that of
	// those from which nothing has been read since the last answer. Both make room for others
	// where that is needed.
	fresh, header, body, keepalive eventloop.Class
	life                           lifetime

	req     message.Request
	current *Stream // whose request is in req, nil if nobody's
	scratch []byte  // decoded paths and lowered hosts
	spare   *Stream // for what is answered at once
	failure message.Response
	date    []byte // "Date: …\r\n", renewed once a second
	second  int64  // of date, in Unix time
	fixed   []form // by Fixed.Number
	free    eventloop.Spare[*Stream]
	peers   map[*eventloop.Conn]netip.Addr // of connections whose address somebody has asked for
}

// NewHandler makes the handler of a site for a loop.
func NewHandler(l *eventloop.Loop, conf Config, site Site) *Handler {
	h := &Handler{
		loop: l, conf: conf, site: site, log: conf.Log,
		fresh:     l.SpareClass(conf.HeaderTimeout, freshGrace),
		header:    l.Class(conf.HeaderTimeout),
		body:      l.Class(conf.BodyTimeout),
		keepalive: l.SpareClass(conf.KeepaliveTimeout, 0),
		scratch:   make([]byte, 0, 1024),
		spare:     new(Stream),
		second:    -1,
		peers:     make(map[*eventloop.Conn]netip.Addr),
	}
	h.life = newLifetime(l, conf.MaxRequests, conf.MaxLifetime, max(conf.KeepaliveTimeout, conf.HeaderTimeout))
	l.OnTrim(func() { h.free.Trim(func(*Stream) {}) })
	return h
}

// Opened makes a connection wait for its first request.
func (h *Handler) Opened(c *eventloop.Conn) { h.life.wait(c, h.fresh, h.conf.HeaderTimeout) }

// freshGrace is how long a new connection may take to send its first byte before it may be
// closed to make room for another.
const freshGrace = time.Second

// Received answers the requests in the input, until none is left or the connection has
// used up its share.
func (h *Handler) Received(c *eventloop.Conn, in []byte) int {
	n := 0
	for n < len(in) && !c.Finishing() {
		var used int
		s, busy := c.State.(*Stream)
		if c.Congested() && !(busy && s.phase == Answering) {
			return n
		}
		switch {
		case busy && s.phase == InBody:
			used = h.discardBody(c, s, in[n:])
		case busy && s.phase == Answering:
			used = h.passBody(c, s, in[n:])
		default:
			used = h.readHead(c, s, in[n:])
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

// Flushed continues with an answer when all that was queued of it has been written.
func (h *Handler) Flushed(c *eventloop.Conn) {
	if s := h.answering(c); s != nil {
		s.responder.Room()
	}
}

// answering returns a connection's stream if a responder has it, otherwise nil.
func (h *Handler) answering(c *eventloop.Conn) *Stream {
	if s, ok := c.State.(*Stream); ok && s.phase == Answering {
		return s
	}
	return nil
}

// Ended closes the connection, since no further request can come. Answers that are queued are
// still written.
func (h *Handler) Ended(c *eventloop.Conn) {
	s := h.answering(c)
	switch {
	case s == nil:
		c.Finish(false)
	case !s.responder.Ended():
		c.Close() // the request will never be whole; see Closed
	case c.State == s:
		s.closing = true
	}
}

// TimedOut ends a connection on which a request did not arrive in time: with 408 if part of it did,
// otherwise without an answer.
func (h *Handler) TimedOut(c *eventloop.Conn) {
	s, ok := c.State.(*Stream)
	switch {
	case !ok && c.Congested():
		c.SetTimeout(h.keepalive) // an answer is still on its way
	case !ok && h.life.waitsOn(c):
	case !ok, s.phase == InHead && s.blank:
		c.Finish(true)
	case s.phase == Answering:
		s.responder.TimedOut()
	default:
		h.refuse(c, s, 408)
	}
}

// Passed is called when the loop has passed on the last of a request's body.
func (h *Handler) Passed(c *eventloop.Conn) {
	if s := h.answering(c); s != nil {
		h.bodyRead(s, !c.HasInput())
		s.responder.Came(true)
	}
}

// TooSlow implements eventloop.Pacer.
func (h *Handler) TooSlow(c *eventloop.Conn) {
	if s := h.answering(c); s != nil {
		s.cancel(408)
	}
}

// cancel answers in place of the responder, or aborts the answer if it has begun.
func (s *Stream) cancel(status int) {
	s.responder.Gone(0, false)
	if s.begun {
		s.Abort()
	} else {
		s.Fail(status)
	}
}

// Closed ends the request that the connection was in the middle of, if any.
func (h *Handler) Closed(c *eventloop.Conn) {
	if len(h.peers) > 0 {
		delete(h.peers, c) // first of all: the pointer may be reused for a connection of another address
	}
	if s := h.answering(c); s != nil {
		if !s.switched && !c.Away() {
			s.lost()
		}
		s.responder.Gone(h.loop.Cause(), c.Away())
	}
	h.detach(c)
}

// statusGone is the status that the access log shows for a request whose client left before the answer.
// No client ever sees it.
const statusGone = 499

// lost handles a client that has left before its answer had ended.
func (s *Stream) lost() {
	switch {
	case !s.begun:
		s.status = statusGone
	case s.bare:
		s.c.ResetOnClose() // if this process ended it, the answer must not look complete
	}
	s.log(s.content)
}

// peer returns a client's address. The kernel is asked once for each connection.
func (h *Handler) peer(c *eventloop.Conn) netip.Addr {
	addr, known := h.peers[c]
	if !known {
		addr = c.Remote().Addr()
		h.peers[c] = addr
	}
	return addr
}

// Held implements eventloop.Shedder.
func (h *Handler) Held(c *eventloop.Conn) int {
	if s, ok := c.State.(*Stream); ok {
		return s.charged
	}
	return 0
}

// Shed answers 503 where no answer has begun, and closes the connection.
func (h *Handler) Shed(c *eventloop.Conn) {
	s, ok := c.State.(*Stream)
	switch {
	case !ok || s.logged && s.phase == Answering:
		c.Close()
	case s.phase == Answering:
		s.cancel(503)
		if !c.Finishing() {
			c.Finish(true)
		}
	default:
		h.refuse(c, s, 503)
		h.detach(c) // the request's slices lie in its head
	}
}
