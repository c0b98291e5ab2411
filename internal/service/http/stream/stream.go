// Package stream is the seam between framings and responders. It owns the interfaces by which each sees
// the other: Stream is a request as a responder sees it, Responder is what answers it as a framing sees
// it.
//
//	client's connection ─▶ framing ─▶ Site.Find ─▶ Route.Serve(Stream, request) ─▶ Responder
//	                          ▲                          │ Head, Data, File, End        ▲
//	                          └──────────────────────────┘                              │
//	                          └── Data, Room, TimedOut, Ended, Gone ────────────────────┘
//
// Framings and responders call each other through these interfaces only. So neither knows the other,
// and a framing or a kind of route is added without touching the existing ones. The seam keeps nothing
// itself, and decides nothing.
package stream

import (
	"net/netip"

	"golang.org/x/sys/unix"

	"reuseportd/internal/eventloop"
	"reuseportd/internal/service/http/message"
	"reuseportd/internal/tls/info"
)

// Stream is one request on its client's connection, and the answer to it. An answer is Fixed, or Fail,
// or Head followed by content and End; Abort ends it before its time. When the answer has ended the
// stream is over, and no method may be called. What is queued is written at once by Push, or else when
// the handler's call that led here returns to the event loop.
type Stream interface {
	// Request is the request. It is valid until the event loop's call returns; a later call may have
	// to parse it again.
	Request() *message.Request
	// Peer is the client's address, the zero Addr for a Unix socket's.
	Peer() netip.Addr
	// Secure reports whether the client's connection is encrypted.
	Secure() bool
	// Session is what is known of the TLS of the client's connection, nil if it has none.
	Session() *info.Session

	Fixed(f *Fixed)
	// Interim queues a 1xx head. The client must speak HTTP/1.1 or later.
	Interim(r *message.Response)
	// Head queues a head. The stream adds Date and what frames the content. room is how many bytes of
	// content follow at once.
	Head(r *message.Response, room int)
	// Data queues a copy of content.
	Data(p []byte)
	// File queues n > 0 bytes of a file from offset off. It takes over the descriptor. Until
	// Responder.Room is called nothing may follow but End.
	File(fd int, off, n int64)
	// Trailer queues a trailer field. The first call has no name and marks the end of the content.
	Trailer(name, value []byte)
	End()
	// Fail answers with a status of 400 or more and its reason as content. No head may have
	// been queued.
	Fail(status int)
	// Abort ends an answer whose head has been queued, in a way that shows the client that
	// it is incomplete.
	Abort()

	// Push writes what is queued. If that ends the connection, the responder is told by Gone, after the current
	// call has returned to the event loop: nobody has to check.
	Push()
	// Throttle stops the input of another connection until all that is queued here has been written.
	// It returns false if nothing is queued.
	Throttle(from *eventloop.Conn) bool
	// Unsent is how much of what was queued the client has not acknowledged, in bytes.
	Unsent() int64

	// ReadBody begins to read a body of which some is still to come. If its length is known, the event
	// loop passes it to the connection that the stream is joined to; otherwise it comes to
	// Responder.Data.
	ReadBody()
	// BodyRead reports whether all of the body has been read.
	BodyRead() bool

	// Join ties the client's connection to one to a server, until eventloop's Part: they go to another
	// process together, and the event loop can pass bytes between them.
	Join(to *eventloop.Conn)
	// Direct returns the client's connection if content needs neither framing nor encryption, otherwise
	// nil. The stream doesn't see what Conn.Pass passes to it, and must be told how many bytes that
	// was, by Passed.
	Direct() *eventloop.Conn
	Passed(n int64)
	// Took is how many bytes of the body the event loop has passed to the connection that the stream
	// is joined to.
	Took() uint64

	// Deadline bounds the time from this call to the end of the answer; 0 is no bound.
	Deadline(d eventloop.Class)
	// Busy keeps the connection from being handed over until it is called with false, or the stream ends.
	Busy(on bool)
	// Spend counts work against the connection's share of a turn.
	Spend(work int)

	// Switch answers with 101 and gives the connection to t, unframed. The stream lasts until Leave, or the
	// connection's end.
	Switch(r *message.Response, t Responder) *eventloop.Conn
	// Detach ends a stream that was switched. It doesn't touch the connection.
	Detach()
}

// Responder answers a stream.
type Responder interface {
	// Data is given a piece of the request's body, and Trailer a trailer field, in the same form as
	// Stream's. Neither may end the stream.
	Data(p []byte)
	Trailer(name, value []byte)
	// Came is called after the pieces that came together; end says that there are no more. It returns
	// a connection whose output must be written before the rest is read, or nil.
	Came(end bool) (to *eventloop.Conn)

	// Room is called when what File has queued has been written.
	Room()
	// TimedOut is called when the deadline has passed, or when a body doesn't come and no connection is
	// joined.
	TimedOut()
	// Ended is called when the client has shut down its side, or its request will stay incomplete.
	// It reports whether the answer continues; otherwise the connection is closed.
	Ended() bool
	// Gone is called when the stream has been ended by somebody else. The responder frees all that it
	// holds. away says that another process has the connection.
	Gone(cause unix.Errno, away bool)

	// Held is how many bytes of memory it holds.
	Held() int
	// Freeze appends what the responder holds, in the form that another process reads, and returns the
	// descriptors that go with it. The responder is unchanged.
	Freeze(b []byte) (kind Kind, out []byte, fds []int)
}

// Route answers the requests below a path, in one loop.
type Route interface {
	// Serve answers a request. It returns what continues the answer, nil if the stream has ended.
	// body is the whole body if the route reads bodies and all of it has come.
	Serve(s Stream, r *message.Request, body []byte) Responder
	// ReadsBody reports whether the route reads requests' bodies. If not, it is called when the body
	// has been read and discarded.
	ReadsBody() bool
}

// Fixed is an answer that is always the same. A framing may keep the bytes that it sends for
// it.
type Fixed struct {
	Number int // among all of its site, from 0
	Head   message.Response
	Body   []byte
}
