package eventloop

// flag is a bit of a connection's state: its life, of which one bit is set while it is open, or a
// fact about it.
type flag uint32

// The lives of a connection. docs/ARCHITECTURE.md has the table of what leads from one to
// the next.
const (
	dialing   flag = 1 << iota // connect(2) is under way, or a transport's handshake
	serving                    // its handler is asked
	finishing                  // its output goes out, and it ends
	lingering                  // its output is shut; input is thrown away until the peer closes

	// open is any of them. Without one the place in the table is free, or its descriptor waits
	// for reap.
	open = dialing | serving | finishing | lingering
	// ending is what Finish leads to: the handler is asked no more.
	ending = finishing | lingering
)

// Facts that are as true in another loop, and go there with the connection.
const (
	readable flag = 1 << (4 + iota) // the socket may have input
	hangup                          // a FIN, an error or urgent data is behind that input
	gone                            // the peer takes no more output either
	watchOut                        // watched for EPOLLOUT too
	paused                          // Received stopped because of Congested
	tailDone                        // a tail was written and Flushed not yet called
	eof                             // the socket's input has ended
	ended                           // Ended was called
	linger                          // finishing: it is not closed before the peer has closed
	blocked                         // output waits for the peer
	outgoing                        // made by Dial
	shutting                        // ShutWrite, when the output has gone
	shut                            // …which has been
	steady                          // the timeout is a deadline: nothing puts it off
	deaf                            // the peer takes no more output, but what it sent before is read

	travels = deaf<<1 - readable // all of them
)

// Facts of this loop alone.
const (
	registered flag = deaf << (1 + iota) // watched by epoll
	queued                               // on the list of connections that go on next turn
	away                                 // on its way to another loop, or from one: not to be touched
	stays                                // of a draining loop: nobody takes it over
	answered                             // dialing, and epoll has said how it went
	held                                 // Hold: input waits for Release
	waiting                              // WaitFor: input waits for another connection's output
	busy                                 // SetBusy: not to be taken over now
	unheard                              // not watched for input, while it waits
	bothWays                             // Duplex
	crammed                              // what it sends at once is more work than a share
	foreign                              // came from another process, which may have a duplicate of its socket
	sealed                               // it has a transport

	missed = answered // of one that has ended: while it was dialing
)

func (c *Conn) has(f flag) bool { return c.flags&f != 0 }

// here reports whether the connection is open and not on its way.
func (c *Conn) here() bool { return c.has(open) && !c.has(away) }

// become begins a life.
func (c *Conn) become(life flag) { c.flags = c.flags&^open | life }

// facts are the numbers by which what travels stands in a Parcel, whatever it is here. They are
// part of the handover's format: a number is never used for anything else.
var facts = [...]struct {
	flag flag
	bit  uint8
}{
	{readable, 1},
	{hangup, 2},
	{gone, 3},
	{watchOut, 5},
	{paused, 6},
	{tailDone, 7},
	{eof, 8},
	{ended, 9},
	{linger, 11},
	{blocked, 14},
	{outgoing, 17},
	{shutting, 22},
	{shut, 23},
	{steady, 24},
	{deaf, 25},
}

// How two lives stand there; a connection that lingers has both. None that is dialing travels.
const (
	factFinishing = 1 << 10
	factLingering = 1 << 12
)

// wireFacts returns what travels of a connection's state.
func (c *Conn) wireFacts() (w uint32) {
	for _, f := range facts {
		if c.has(f.flag) {
			w |= 1 << f.bit
		}
	}
	switch {
	case c.has(lingering):
		w |= factFinishing | factLingering
	case c.has(finishing):
		w |= factFinishing
	}
	return w
}

// stateOf is the reverse of wireFacts. What it does not know it leaves out.
func stateOf(w uint32) (state flag) {
	for _, f := range facts {
		if w&(1<<f.bit) != 0 {
			state |= f.flag
		}
	}
	switch {
	case w&factLingering != 0:
		return state | lingering
	case w&factFinishing != 0:
		return state | finishing
	}
	return state | serving
}
