package http

import (
	"time"

	"golang.org/x/sys/unix"

	"reuseportd/internal/eventloop"
	"reuseportd/internal/service/http/message"
)

// tunnel passes on the 101 in h.resp. From here on both sides say what they want: nothing
// of it is read here any more, and it goes to another process as it is.
func (h *Handler) tunnel(x *exchange, opts message.Options) {
	c, u := x.client, x.link.conn
	x.pool.chooser.Succeeded(x.server, h.loop.Monotonic())
	x.phase, x.status = inTunnel, 101
	buf := x.to.appendResponse(c.Reserve(len(h.resp.Lines)+128), &h.resp, &reply{opts: opts})
	c.Commit(append(buf, "Connection: Upgrade\r\n\r\n"...))
	h.logExchange(x)
	u.SetTimeout(h.quiet) // the server's: its client may have a deadline
	u.KeepAlive(tunnelKeepalive)
	u.Pass(-1)
	c.Pass(-1)
	c.SetBusy(false)
	c.Push()
}

// tunnelKeepalive finds a server that has gone before the tunnel has been quiet for long enough.
var tunnelKeepalive = eventloop.Keepalive{Idle: time.Minute, Interval: 10 * time.Second, Count: 6}

// tunnelTimedOut ends a tunnel in which nothing has moved. What one side
// takes slowly moves, though nothing comes from the other meanwhile.
func (h *Handler) tunnelTimedOut(x *exchange) {
	if left := x.client.Unsent() + x.link.conn.Unsent(); left > 0 && left != x.unsent {
		x.unsent = left
		x.link.conn.SetTimeout(h.quiet)
		return
	}
	h.loop.Count().Quiet++
	x.client.Close()
}

// tunnelEnded passes an end on. When both sides have ended the tunnel has.
func (h *Handler) tunnelEnded(x *exchange, from, to *eventloop.Conn) {
	to.ShutWrite()
	if !to.HasEnded() {
		return
	}
	h.endTunnel(x)
	from.Finish(false)
	to.Finish(false)
	to.Wake()
}

// endTunnel takes a tunnel apart. Its two connections aren't touched.
func (h *Handler) endTunnel(x *exchange) {
	c := x.client
	h.part(x)
	h.release(c)
}

// tunnelClosed is called when one side of a tunnel has been closed: by an error, which the
// other is to see, or with all that it said passed on. It is also called when another
// process has the tunnel.
func (h *Handler) tunnelClosed(x *exchange, which *eventloop.Conn, cause unix.Errno) {
	other := x.client
	if which == other {
		other = x.link.conn
	}
	h.endTunnel(x)
	if cause != 0 {
		other.Abort()
		return
	}
	other.Finish(false)
	other.Wake()
}
