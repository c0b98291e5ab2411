// Package eventloop moves bytes between sockets and handlers: one goroutine,
// one epoll instance, one table of connections indexed by descriptor.
//
// It owns every client descriptor from accept4(2) to close(2), the buffers that
// are lent to connections, and their timers. It must never know a
// configuration, write a log line, use package net, take a lock or allocate
// while it serves a request.
//
// How it works. A turn (loop.go) waits for events, which only queue connections; drive (drive.go) takes one from the queue as
// far as it goes: output, what its handler has left of the input, the socket. A connection has one life and facts (life.go). All its
// bytes go through two functions, and a transport if it has one (transport.go, sealed.go). It may travel with others (tie.go), and pass its
// input to one of those (pass.go, pump.go). To another process it goes as a Parcel (depart.go, arrive.go).
//
// What stops has four words, each with one meaning:
//
//	end     a connection is over: closed, cut before it was done, or given to another process (table.go). It is queued;
//	        its handler is told by report, and its descriptor is closed by reap
//	free    memory, or what was lent, is taken back
//	part    a connection goes by itself from here on
//	refuse  a fresh connection is not let in
//
// Everything here but Post and Run must be called on the loop's goroutine, that
// is: from a Handler or from a function given to Post.
package eventloop

// Handler is what is done with the connections of a Service. The loop calls it
// on its own goroutine and never twice at once. A method may write to the
// connection, arm its timeout and close it; what it queues is written when it
// returns. No method may block or keep `in`.
type Handler interface {
	// Opened is called once, before the first byte is read.
	Opened(c *Conn)

	// Received takes input. It returns how many bytes of in it has consumed;
	// the loop keeps the rest and presents it again, with what has arrived
	// since in front of nothing else. It should consume all the complete
	// messages it finds, but stop when c.Congested() says so: the loop calls
	// again as soon as the output has gone.
	Received(c *Conn, in []byte) (consumed int)

	// Flushed is called when what WriteStatic or SendFile queued has been
	// written, before any further Received. After Finish it isn't called.
	Flushed(c *Conn)

	// Ended is called once when the peer has shut its writing side and all of
	// its input was presented. The connection stays open for output: a handler
	// that is done with it calls Finish or Close.
	Ended(c *Conn)

	// TimedOut is called when the timeout armed by SetTimeout has passed.
	TimedOut(c *Conn)

	// Closed is called once, last. What the State holds must be freed. Whoever ends a connection, its handler
	// is told when the call in which that happened has returned, and before any other handler is asked.
	// Until then it can be used like an open one, and nothing comes of it.
	Closed(c *Conn)
}
