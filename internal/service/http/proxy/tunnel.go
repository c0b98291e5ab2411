package proxy

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"reuseportd/internal/eventloop"
	"reuseportd/internal/service/http/stream"
)

// Tunnel implements stream.Responder for an upgraded request: two connections between which the event loop
// passes all bytes. None of them is looked at here.
type Tunnel struct {
	stream.NoBody
	attempts
	s        stream.Stream
	client   *eventloop.Conn
	link     *link
	deadline bool  // the client's connection has one
	unsent   int64 // bytes not yet acknowledged by the peers when the tunnel was last found quiet

	in, out uint64 // bytes from and to the server before the tunnel began
}

// tunnelKeepalive notices a server that has vanished, before the tunnel's own timeout.
var tunnelKeepalive = eventloop.Keepalive{Idle: time.Minute, Interval: 10 * time.Second, Count: 6}

// tunnel passes on a 101. After it both sides send what they want, and it is passed on unchanged.
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
	x.free()
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

// timedOut ends a tunnel in which nothing has moved. Output that a slow side acknowledges counts as
// movement, even if the other side sends nothing meanwhile.
func (t *Tunnel) timedOut() {
	if left := t.client.Unsent() + t.link.conn.Unsent(); left > 0 && left != t.unsent {
		t.unsent = left
		t.link.conn.SetTimeout(t.hub.quiet)
		return
	}
	t.hub.loop.Count().Quiet++
	t.client.Close()
}

// ended is called when the server has shut down its side.
func (t *Tunnel) ended() { t.pass(t.link.conn, t.client) }

// Ended implements stream.Responder.
func (t *Tunnel) Ended() bool {
	t.pass(t.client, t.link.conn)
	return true
}

// pass passes the end of one side to the other. The tunnel ends with the second one.
func (t *Tunnel) pass(from, to *eventloop.Conn) {
	to.ShutWrite()
	if !to.HasEnded() {
		return
	}
	t.detach()
	from.Finish(false)
	to.Finish(false)
	to.Wake()
}

// detach separates the tunnel from its two connections, which stay open.
func (t *Tunnel) detach() {
	l := t.link
	in, out := t.in+l.conn.Passed(), t.out+t.s.Took()
	t.hub.loop.Part(l.conn)
	l.user = nil
	t.done(in, out)
	t.s.Detach()
}

// closed is called when the server's connection has been closed, and Gone when the client's has: by an
// error, which the other side must see; or in order, after everything was passed on; or because another
// process has the tunnel.
func (t *Tunnel) closed(cause unix.Errno) { t.endOne(t.client, cause) }

// Gone implements stream.Responder.
func (t *Tunnel) Gone(cause unix.Errno, _ bool) { t.endOne(t.link.conn, cause) }

// endOne ends a tunnel that has only one side left.
func (t *Tunnel) endOne(other *eventloop.Conn, cause unix.Errno) {
	t.detach()
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
