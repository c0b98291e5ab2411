package proxy

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"reuseportd/internal/eventloop"
	"reuseportd/internal/service/http/message"
	"reuseportd/internal/service/http/stream"
	"reuseportd/internal/upstream"
)

// Relay implements stream.Responder: it passes one request to a server and the response
// to the client.
//
// Invariant: s is nil when the stream is over, and link is nil while there is no connection
// to a server.
type Relay struct {
	attempts
	route  *Route
	s      stream.Stream
	link   *link
	origin origin

	body   []byte // the request's body, if it came whole
	whole  bool   // it did: the request can be sent again
	method []byte // "GET", "HEAD" or nil for others
	minor  byte   // of the client's HTTP/1.minor
	safe   bool   // it may be repeated if it wasn't answered

	answered bool // the client has been sent a head

	in, out uint64 // bytes from and to the server, on connections that are no longer in use
}

// relaySize is the memory counted for a relay, without the body that it keeps; callSize is about the size
// of a call. Bytes.
const (
	relaySize = int(unsafe.Sizeof(Relay{})+unsafe.Sizeof(link{})) + callSize
	callSize  = 256
)

// maxKept bounds the buffer of a relay that is kept for reuse, in bytes.
const maxKept = 16 << 10

// free keeps the relay for reuse. The stream is over, or has another responder.
func (x *Relay) free() {
	h, body := x.hub, x.body
	*x = Relay{}
	if cap(body) <= maxKept {
		x.body = body[:0]
		h.relays.Keep(x, maxFree)
	}
}

// attempt takes or makes a connection to a server and sends the request, or fails.
func (x *Relay) attempt() {
	x.s.Busy(true) // until there is a connection
	for {
		why, ok := x.pick()
		if !ok {
			x.unavailable(why)
			return
		}
		if !x.fresh {
			if l := x.pool.take(x.server, !x.safe || !x.whole); l != nil {
				x.use(l)
				x.connected()
				return
			}
		}
		c, err := x.hub.loop.Dial(x.pool.svc, x.server.Address())
		if err == nil {
			x.use(x.pool.link(x.server, c))
			c.SetTimeout(x.pool.connect)
			return
		}
		errno, _ := err.(unix.Errno)
		if x.blame(upstream.ReasonOf(errno)); !x.another(x.takeBytes()) {
			x.fail(x.gateway())
			return
		}
	}
}

// use takes a connection into use for the request.
func (x *Relay) use(l *link) {
	l.user, x.link = x, l
	l.call.Begin(l.conn, x.method)
}

// connected sends the request on the relay's connection, which is open.
func (x *Relay) connected() {
	h, l := x.hub, x.link
	u := l.conn
	x.s.Join(u)
	r := x.s.Request()
	opts, _ := h.options(r)
	h.room = x.route.composeRequest(&h.req, h.room, r, x.origin, l.server.Host(), opts)
	l.call.Send(&h.req, x.body)
	u.Push()
	x.s.Busy(false)
	if x.s.BodyRead() {
		u.SetTimeout(x.route.patience)
	} else {
		u.SetTimeout(h.body)
		x.s.ReadBody()
	}
}

// Data implements stream.Responder.
func (x *Relay) Data(p []byte) {
	if x.link != nil {
		x.link.call.Data(p)
	}
}

// Trailer implements stream.Responder.
func (x *Relay) Trailer(name, value []byte) {
	if x.link != nil && (len(name) == 0 || x.route.request.trailer(name)) {
		x.link.call.Trailer(name, value)
	}
}

// Came implements stream.Responder.
func (x *Relay) Came(end bool) (to *eventloop.Conn) {
	l := x.link
	switch {
	case l == nil: // this process is ending
		return nil
	case !end:
		l.conn.SetTimeout(x.hub.body)
	default:
		l.conn.SetTimeout(x.route.patience)
		if !l.call.End() {
			return l.conn
		}
	}
	l.conn.Push()
	return l.conn
}

// received consumes input from the server, and returns how much.
func (x *Relay) received(in []byte) (n int) {
	for {
		l := x.link
		k, e := l.call.Next(in[n:])
		n += k
		switch e {
		case stream.More:
			x.flow()
			return n
		case stream.Malformed:
			x.serverFailed(upstream.Malformed)
			return len(in)
		case stream.Interim:
			if x.interim() {
				return n
			}
		case stream.Switch:
			// A tunnel begins after the request: the rest of a body would be read as the new protocol.
			if !x.s.BodyRead() {
				x.serverFailed(upstream.Malformed)
				return len(in)
			}
			x.tunnel()
			return n
		case stream.Head:
			x.head(len(in) - n)
		case stream.Data:
			x.s.Data(l.call.Piece())
		case stream.Trailer:
			if name, value := message.CutLine(l.call.Piece()); len(name) == 0 || x.route.response.trailer(name) {
				x.s.Trailer(name, value)
			}
		case stream.Complete:
			x.complete(n == len(in))
			return n
		}
	}
}

// response returns what the client is sent of the server's head.
func (x *Relay) response() *message.Response {
	h := x.hub
	h.room = x.route.composeResponse(&h.resp, h.room, x.link.call.Response(), x.minor == 1)
	return &h.resp
}

// interim passes on a 1xx head. It reports whether the server has to wait for the client, so that a server
// that sends many of them doesn't fill our memory.
func (x *Relay) interim() (wait bool) {
	if x.minor == 0 {
		return false
	}
	u := x.link.conn
	x.s.Interim(x.response())
	x.s.Push()
	u.SetTimeout(x.route.patience)
	return x.s.Throttle(u)
}

// head passes on a head, followed by that many bytes that came with it.
func (x *Relay) head(follow int) {
	x.pool.chooser.Succeeded(x.server, x.hub.loop.Monotonic())
	x.answered = true
	x.s.Head(x.response(), min(follow, maxFollow))
}

// maxFollow bounds the room reserved for content after a head, in bytes.
const maxFollow = 64 << 10

// flow sends the client what is queued, and waits for more.
func (x *Relay) flow() {
	l := x.link
	if !x.answered {
		l.conn.SetTimeout(x.route.patience)
		return
	}
	x.s.Push()
	l.conn.SetTimeout(x.route.patience)
	if n, to := l.call.Direct(), x.s.Direct(); n != 0 && to != nil {
		l.conn.Pass(to, n)
		return
	}
	x.s.Throttle(l.conn)
}

// passed is called when the loop has passed on all of the content. The connection isn't reused if
// there are bytes after it: they would be taken for the next answer.
func (x *Relay) passed() { x.complete(x.link.conn.Silent()) }

// complete ends a stream whose answer has been passed on whole. clean says that the server has sent nothing
// after it.
func (x *Relay) complete(clean bool) {
	l, s := x.link, x.s
	s.Passed(int64(l.conn.Passed()))
	reuse := l.call.Reusable() && s.BodyRead() && clean && !l.conn.HasEnded() && !l.conn.HasOutput()
	x.endUse()
	if reuse {
		l.pool.put(l)
	} else {
		l.conn.Close()
	}
	x.free()
	s.End()
}

// endUse ends the use of the server. The connection to it stays open.
func (x *Relay) endUse() {
	if x.link != nil {
		x.detach()
	}
	x.done(x.takeBytes())
}

// detach separates the relay from its connection to a server, which stays open.
func (x *Relay) detach() {
	l := x.link
	in, out := l.call.Bytes()
	x.in += in + l.conn.Passed()
	x.out += out + x.s.Took()
	x.hub.loop.Part(l.conn)
	l.user, x.link = nil, nil
}

// takeBytes returns how many bytes came from the server and went to it since the last
// call.
func (x *Relay) takeBytes() (in, out uint64) {
	in, out = x.in, x.out
	x.in, x.out = 0, 0
	return in, out
}

// Room implements stream.Responder: no file is sent.
func (x *Relay) Room() {}

// Held implements stream.Responder.
func (x *Relay) Held() int { return relaySize + cap(x.body) }
