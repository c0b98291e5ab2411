// Package stream is the seam between framings and responders: what a request on a client's connection is
// to who answers it, and the other way round.
//
//	client's connection ─▶ framing ─▶ Site.Find ─▶ Route.Serve(Stream, request) ─▶ Responder
//	                          ▲                          │ Head, Data, File, End        ▲
//	                          └──────────────────────────┘                              │
//	                          └── Data, Room, TimedOut, Ended, Gone ────────────────────┘
//
// A framing calls routes and responders by these interfaces only, and they call it by these only; so
// neither knows the other, and a framing or a kind of route is added without touching those that there
// are. The seam keeps nothing itself, and decides nothing.
package stream

import (
	"net/netip"

	"golang.org/x/sys/unix"

	"reuseportd/internal/eventloop"
	"reuseportd/internal/service/http/message"
)

// Stream is one request on its client's connection, and the answer to it. An answer is Fixed or Fail, or
// else Head, then content, then End; Abort breaks it off. When it has ended the stream is over, and no
// method may be called. What is queued is written when the event loop's call returns that led
// here, or at once by Push.
type Stream interface {
	// Request is the request. It is valid until the event loop's call returns; to have it again later
	// may cost a parse.
	Request() *message.Request
	// Peer is the client's address, the zero Addr for a Unix socket's.
	Peer() netip.Addr
	// Secure reports whether the client's connection is encrypted.
	Secure() bool

	Fixed(f *Fixed)
	// Interim queues a 1xx head. The client must speak HTTP/1.1 or later.
	Interim(r *message.Response)
	// Head queues a head. Date and what frames the content are the stream's own. room bytes of content
	// follow at once.
	Head(r *message.Response, room int)
	// Data queues a copy of content.
	Data(p []byte)
	// File queues n > 0 bytes of a file from offset off. It owns the descriptor from now on. Nothing but
	// End may follow before Responder.Room.
	File(fd int, off, n int64)
	// Trailer queues a field behind all content. One without a name comes first: the content has ended.
	Trailer(name, value []byte)
	End()
	// Fail answers with a status of 400 or more and its reason, in place of a head.
	Fail(status int)
	// Abort ends an answer whose head was sent, so that the client sees that this isn't all.
	Abort()

	// Push writes what is queued. Should that end the connection, the responder is told when the event loop's call
	// has returned (Gone): nobody has to ask.
	Push()
	// Throttle stops a connection's input until all that is queued here has gone. It reports whether
	// there is any.
	Throttle(from *eventloop.Conn) bool
	// Unsent is how much of what was queued the client has not acknowledged, in bytes.
	Unsent() int64

	// ReadBody has a body read that has not come whole. One of known length goes to the connection that
	// the stream is joined to, unseen; any other comes to Responder.Data.
	ReadBody()
	// BodyRead reports whether all of the body has been read.
	BodyRead() bool

	// Join ties the stream to a connection to a server, until Part: they go to another process together,
	// and Direct connections pass bytes.
	Join(to *eventloop.Conn)
	// Direct is the client's connection where content needs neither framing nor sealing; else nil. What
	// is passed to it by Conn.Pass the stream has not seen: Passed says how many bytes that was.
	Direct() *eventloop.Conn
	Passed(n int64)
	// Took is how many bytes of the body went to the connection that the stream is joined to, unseen.
	Took() uint64

	// Deadline bounds the time until the answer's end, from now on; 0 is no bound.
	Deadline(d eventloop.Class)
	// Busy keeps the connection from being handed over until it is called with false, or the stream ends.
	Busy(on bool)
	// Spend counts work, of the connection's share in a turn.
	Spend(work int)

	// Switch answers with 101 and gives the connection to t, unframed. The stream lasts until Leave, or the
	// connection's end.
	Switch(r *message.Response, t Responder) *eventloop.Conn
	// Leave ends a stream that was switched. It doesn't touch the connection.
	Leave()
}

// Responder answers a stream.
type Responder interface {
	// Data takes a piece of the request's body, and Trailer a field behind it, as Stream's do. Neither may
	// end the stream.
	Data(p []byte)
	Trailer(name, value []byte)
	// Came is called behind the pieces that have come together; with end there are no more. It returns
	// the connection whose output the rest waits for, nil if that is none.
	Came(end bool) (to *eventloop.Conn)

	// Room is called when what File queued has gone.
	Room()
	// TimedOut is called when the deadline has passed, or a body that nothing was joined for doesn't come.
	TimedOut()
	// Ended is called when the client has shut its side, or its request won't be whole. It reports
	// whether the answer goes on; else the connection is closed.
	Ended() bool
	// Gone is called when the stream ends by another's doing: the responder releases all that it holds.
	// away says that another process has the connection.
	Gone(cause unix.Errno, away bool)

	// Held is how many bytes of memory it holds.
	Held() int
	// Freeze appends what it holds, as another process reads it, and returns the descriptors that go with
	// that. It stays as it is.
	Freeze(b []byte) (kind Kind, out []byte, fds []int)
}

// Route answers the requests below a path, in one loop.
type Route interface {
	// Serve answers a request. It returns what goes on with the answer, nil if the stream has ended.
	// body is all of the request's body if it was there, and the route reads bodies.
	Serve(s Stream, r *message.Request, body []byte) Responder
	// ReadsBody reports whether the route reads requests' bodies. Else it is called when they have gone
	// by.
	ReadsBody() bool
}

// Fixed is an answer that is always the same. A framing keeps it as the bytes that it sends.
type Fixed struct {
	Number int // of all in its site: from 0 on
	Head   message.Response
	Body   []byte
}
