package stream

import (
	"reuseportd/internal/eventloop"
	"reuseportd/internal/service/http/message"
)

// Call is one request on a connection to a server, and the answer to it: Stream's counterpart. Its user
// pulls what comes from the server in pieces, by Next.
type Call interface {
	// Begin starts a request with a method on a connection.
	Begin(c *eventloop.Conn, method []byte)
	// Send queues a request's head, and its body if all of it is there.
	Send(r *message.Request, body []byte)
	// Data and Trailer queue a request's body as it comes, as Stream's do. End queues its end, and
	// reports whether there is anything to queue.
	Data(p []byte)
	Trailer(name, value []byte)
	End() bool

	// Next consumes some of the input and returns n, the number of bytes, and what it was.
	Next(in []byte) (n int, e Event)
	// Response is the head of Interim, Switch and Head, Piece the bytes of Data and Trailer: valid until
	// the next call.
	Response() *message.Response
	Piece() []byte
	// Closed is Next for the end of the connection's input: Complete, or Malformed if the answer isn't
	// whole.
	Closed() Event

	// HasBegun reports whether some of an answer has come.
	HasBegun() bool
	// Direct is how many bytes of content come next without framing: 0 is none, less than 0 all until
	// the connection ends.
	Direct() int64
	// Reusable reports whether the server keeps the connection after a whole answer.
	Reusable() bool
	// Freeze appends the state of the call. Thaw, called after Begin, continues from it in another
	// process.
	Freeze(b []byte) []byte
	Thaw(r *message.Request, b []byte) error

	// Bytes returns how many bytes were consumed and queued since Begin.
	Bytes() (in, out uint64)
}

// Event is what comes of a server's bytes.
type Event uint8

const (
	// More says that more input is needed.
	More Event = iota
	Interim
	Switch
	Head
	Data
	// Trailer comes with an empty piece first, at the end of the content; message.CutLine splits
	// the others.
	Trailer
	Complete
	Malformed
)
