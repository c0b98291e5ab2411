package h1

import (
	"net/netip"

	"reuseportd/internal/eventloop"
	"reuseportd/internal/service/http/accesslog"
	"reuseportd/internal/service/http/message"
	"reuseportd/internal/service/http/stream"
	"reuseportd/internal/tls/info"
)

// Phase is what a connection is in the middle of.
type Phase uint8

const (
	InHead    Phase = iota // part of a head has arrived
	InBody                 // a body is being read and thrown away
	Answering              // a responder has the stream
)

// Stream implements stream.Stream: one request of a connection, and what the connection holds between two
// calls of the loop. An idle one holds none.
//
// A request that is answered at once uses the handler's spare Stream, which is never attached
// to a connection.
type Stream struct {
	h     *Handler
	c     *eventloop.Conn
	phase Phase
	scan  int  // InHead: bytes already searched for the end of the head
	blank bool // InHead: so far there is only an empty line

	// The request. A head that is kept is parsed again when it is needed.
	head    []byte
	body    Chunks // position in a chunked body
	length  int64  // bytes still to come of a body that is read here; -1 for a chunked one
	pace    eventloop.Pace
	minor   byte
	isHead  bool // its method
	keeps   bool // the client keeps the connection
	read    bool // all of the request has been read
	last    bool // …and no byte behind it: only then may a draining loop end the connection
	wants   bool // the body goes to the responder
	refused bool // where the refused request ends isn't known, so nothing can follow it

	// The answer.
	responder stream.Responder
	status    int
	content   int64 // bytes, for the access log
	begun     bool  // its head has been queued
	chunked   bool  // its content is coded in chunks
	bare      bool  // …ends with the connection
	coding    Encoder
	closing   bool // the connection ends behind it
	logged    bool
	switched  bool

	charged int // memory that the loop counts for it, in bytes
}

// start sets s up for the request in h.req, whose head has been read.
func (s *Stream) start(h *Handler, c *eventloop.Conn, last bool) {
	r := &h.req
	s.h, s.c, s.minor, s.isHead, s.keeps, s.read, s.last = h, c, r.Minor, r.IsHead(), r.KeepAlive, true, last
	s.status, s.content, s.begun, s.chunked, s.bare, s.coding = 0, 0, false, false, false, Encoder{}
	s.closing, s.logged, s.switched, s.refused = false, false, false, false
	h.current = s
}

// attached reports whether the stream is its connection's state. Then its answer outlives the call
// in which its request came.
func (s *Stream) attached() bool {
	of, ok := s.c.State.(*Stream)
	return ok && of == s
}

// Request implements stream.Stream.
func (s *Stream) Request() *message.Request {
	if h := s.h; h.current != s {
		ParseRequest(s.head, 0, h.conf.Limits, &h.req, &h.scratch)
		h.current = s
	}
	return &s.h.req
}

// Peer implements stream.Stream.
func (s *Stream) Peer() netip.Addr { return s.h.peer(s.c) }

// Secure implements stream.Stream.
func (s *Stream) Secure() bool { return s.c.Sealed() != nil }

// Session implements stream.Stream.
func (s *Stream) Session() *info.Session {
	if t, ok := s.c.Sealed().(interface{ Info() *info.Session }); ok {
		return t.Info()
	}
	return nil
}

// Head implements stream.Stream.
func (s *Stream) Head(r *message.Response, room int) {
	framing := NoContent
	if r.Length < 0 && FramingOf(r, s.isHead) != NoContent {
		if framing = ByChunks; s.minor == 0 {
			framing = ToClose
		}
	}
	s.begun, s.status = true, r.Status
	s.chunked, s.bare = framing == ByChunks, framing == ToClose
	s.close(s.bare)
	buf := s.c.Reserve(len(r.Lines) + len(r.Set) + room + 320)
	buf = AppendResponse(buf, r, framing, s.h.dateField())
	s.c.Commit(appendConnection(buf, s.minor, s.closing))
	if r.Local {
		s.log(max(r.Length, 0))
	}
}

// close decides whether the connection is closed after the answer.
func (s *Stream) close(bare bool) {
	// A connection can't begin another request unless this one has been read to its end.
	s.closing = s.refused || !s.keeps || !s.read || bare || s.last && s.c.Leaving() || s.h.life.over(s.c)
}

// Interim implements stream.Stream.
func (s *Stream) Interim(r *message.Response) {
	buf := s.c.Reserve(len(r.Lines) + 64)
	s.c.Commit(append(AppendResponse(buf, r, NoContent, nil), "\r\n"...))
}

// Data implements stream.Stream.
func (s *Stream) Data(p []byte) {
	s.content += int64(len(p))
	switch {
	case s.isHead:
	case s.chunked:
		s.c.Commit(s.coding.Data(s.c.Reserve(len(p)+32), p))
	default:
		s.c.Write(p)
	}
}

// Trailer implements stream.Stream.
func (s *Stream) Trailer(name, value []byte) {
	if s.chunked {
		s.c.Commit(s.coding.Trailer(s.c.Reserve(len(name)+len(value)+16), name, value))
	}
}

// File implements stream.Stream.
func (s *Stream) File(fd int, off, n int64) {
	s.content += n
	s.c.SendFile(fd, off, n)
}

// End implements stream.Stream.
func (s *Stream) End() {
	if s.chunked {
		s.c.Commit(s.coding.End(s.c.Reserve(8)))
	}
	s.log(s.content)
	s.finish()
}

// finish makes the connection wait for its next request, or closes it. Unless the client asked for the
// close, it waits for the client to close its side first.
func (s *Stream) finish() {
	h, c, closing, linger := s.h, s.c, s.closing || !s.read, s.keeps || !s.read
	attached := s.attached()
	if attached {
		h.resume(c)
	}
	switch {
	case closing:
		c.Finish(linger)
	case !attached:
		h.rest(c)
	}
	if attached {
		if closing {
			c.Wake()
		}
		c.SetBusy(false)
		c.Push()
	}
}

// resume undoes what a stream has set on its connection. If the connection had a deadline it has the
// common timeouts again, even if it is about to be closed.
func (h *Handler) resume(c *eventloop.Conn) {
	h.detach(c)
	c.Duplex(false)
	h.rest(c)
	c.Release()
}

// Fail implements stream.Stream.
func (s *Stream) Fail(status int) {
	r, text := &s.h.failure, message.Words[status]
	*r = message.Response{Status: status, Lines: failureFields, Length: int64(len(text)), Local: true}
	s.Head(r, len(text))
	s.Data(text)
	s.End()
}

var failureFields = []byte(message.Server + "Content-Type: text/plain; charset=utf-8\r\n")

// Abort implements stream.Stream.
func (s *Stream) Abort() {
	s.log(s.content)
	h, c, bare := s.h, s.c, s.bare
	h.resume(c)
	if bare { // only the end of the connection marks the end of the content
		c.Abort()
		return
	}
	c.Finish(true)
	c.Wake()
}

// Push implements stream.Stream.
func (s *Stream) Push() { s.c.Push() }

// Throttle implements stream.Stream.
func (s *Stream) Throttle(from *eventloop.Conn) bool {
	from.WaitFor(s.c)
	return s.c.HasOutput()
}

// Unsent implements stream.Stream.
func (s *Stream) Unsent() int64 { return s.c.Unsent() }

// ReadBody implements stream.Stream.
func (s *Stream) ReadBody() {
	r, to := s.Request(), s.c.Partner()
	alone := to == nil
	if !r.Chunked && !alone {
		s.c.Pass(to, r.Length)
		return
	}
	if s.wants, s.length = true, r.Length; r.Chunked {
		s.length = -1
	}
	if alone {
		s.c.Await(&s.pace)
		s.c.SetTimeout(s.h.body)
	}
	s.c.Duplex(true) // until it holds
	s.c.Release()
}

// BodyRead implements stream.Stream.
func (s *Stream) BodyRead() bool { return s.read }

// Join implements stream.Stream.
func (s *Stream) Join(to *eventloop.Conn) { s.h.loop.Join(s.c, to) }

// Direct implements stream.Stream.
func (s *Stream) Direct() *eventloop.Conn {
	if s.chunked || s.isHead {
		return nil
	}
	return s.c
}

// Passed implements stream.Stream.
func (s *Stream) Passed(n int64) { s.content += n }

// Took implements stream.Stream.
func (s *Stream) Took() uint64 { return s.c.Passed() }

// Deadline implements stream.Stream.
func (s *Stream) Deadline(d eventloop.Class) {
	if s.c.SetTimeout(0); d != 0 {
		s.c.SetDeadline(d)
	}
}

// Busy implements stream.Stream.
func (s *Stream) Busy(on bool) { s.c.SetBusy(on) }

// Spend implements stream.Stream.
func (s *Stream) Spend(work int) { s.c.Spend(work) }

// Switch implements stream.Stream.
func (s *Stream) Switch(r *message.Response, t stream.Responder) *eventloop.Conn {
	buf := AppendResponse(s.c.Reserve(len(r.Lines)+128), r, NoContent, nil)
	s.c.Commit(append(buf, "Connection: Upgrade\r\n\r\n"...))
	s.status, s.responder, s.begun, s.switched = r.Status, t, true, true
	s.log(0)
	return s.c
}

// Detach implements stream.Stream.
func (s *Stream) Detach() { s.h.detach(s.c) }

// log adds the request's line to the access log, once.
func (s *Stream) log(size int64) {
	h := s.h
	if s.logged {
		return
	}
	if s.logged = true; h.log == nil {
		return
	}
	h.loop.Count().LogDropped += h.log.Request(s.Request(), accesslog.Line{From: s.c.Remote(), At: h.loop.Now(), Status: s.status, Size: size, TLS: s.Session()})
}
