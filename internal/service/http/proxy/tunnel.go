package proxy

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"reuseportd/internal/eventloop"
	"reuseportd/internal/service/http/stream"
)

// Tunnel implements stream.Responder for what has become of an upgraded request: two connections, of which
// the event loop passes all bytes on. Nothing of them is read here.
type Tunnel struct {
	stream.NoBody
	attempts
	s        stream.Stream
	client   *eventloop.Conn
	link     *link
	deadline bool  // the client's connection has one
	unsent   int64 // bytes that lay in the sockets when the tunnel was found quiet

	in, out uint64 // bytes that came from the server and went to it before
}

// tunnelKeepalive finds a server that has gone before the tunnel has been quiet for long enough.
var tunnelKeepalive = eventloop.Keepalive{Idle: time.Minute, Interval: 10 * time.Second, Count: 6}

// tunnel passes on a 101. From here on both sides say what they want, and it goes to another process as it
// is.
func (x *Relay) tunnel() {
	x.pool.chooser.Succeeded(x.server, x.hub.loop.Monotonic())
	u := x.link.conn
	in, out := x.link.call.Bytes()
	t := &Tunnel{
		attempts: x.attempts, s: x.s, link: x.link, deadline: x.route.total != 0,
		in: x.in + in, out: x.out + out,
	}
	t.link.user = t
	t.client = x.s.Switch(x.response(), t)
	x.recycle()
	u.SetTimeout(t.hub.quiet) // the server's: its client may have a deadline
	u.KeepAlive(tunnelKeepalive)
	u.Pass(t.client, -1)
	t.client.Pass(u, -1)
	t.s.Busy(false)
	t.s.Push()
}

func (t *Tunnel) connected()          {}
func (t *Tunnel) received([]byte) int { return 0 }
func (t *Tunnel) passed()             {}

// timedOut ends a tunnel in which nothing has moved. What one side takes slowly moves, though nothing
// comes from the other meanwhile.
func (t *Tunnel) timedOut() {
	if left := t.client.Unsent() + t.link.conn.Unsent(); left > 0 && left != t.unsent {
		t.unsent = left
		t.link.conn.SetTimeout(t.hub.quiet)
		return
	}
	t.hub.loop.Count().Quiet++
	t.client.Close()
}

// ended is called when the server has shut its side.
func (t *Tunnel) ended() { t.pass(t.link.conn, t.client) }

// Ended implements stream.Responder.
func (t *Tunnel) Ended() bool {
	t.pass(t.client, t.link.conn)
	return true
}

// pass passes an end on. When both sides have ended the tunnel has.
func (t *Tunnel) pass(from, to *eventloop.Conn) {
	to.ShutWrite()
	if !to.HasEnded() {
		return
	}
	t.end()
	from.Finish(false)
	to.Finish(false)
	to.Wake()
}

// end takes the tunnel apart. Its two connections aren't touched.
func (t *Tunnel) end() {
	l := t.link
	in, out := t.in+l.conn.Passed(), t.out+t.s.Took()
	t.hub.loop.Part(l.conn)
	l.user = nil
	t.done(in, out)
	t.s.Leave()
}

// closed is called when the server's connection has been closed, and Gone when the client's has: by an
// error, which the other side is to see, or with all that it said passed on, or because another process
// has the tunnel.
func (t *Tunnel) closed(cause unix.Errno) { t.endOne(t.client, cause) }

// Gone implements stream.Responder.
func (t *Tunnel) Gone(cause unix.Errno, _ bool) { t.endOne(t.link.conn, cause) }

// endOne ends a tunnel of which one side is left.
func (t *Tunnel) endOne(other *eventloop.Conn, cause unix.Errno) {
	t.end()
	if cause != 0 {
		other.Abort()
		return
	}
	other.Finish(false)
	other.Wake()
}

// Room implements stream.Responder.
func (t *Tunnel) Room() {}

// TimedOut implements stream.Responder.
func (t *Tunnel) TimedOut() { t.client.Close() }

// Held implements stream.Responder.
func (t *Tunnel) Held() int { return int(unsafe.Sizeof(*t) + unsafe.Sizeof(link{})) }
