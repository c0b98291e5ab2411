package proxy

import (
	"errors"
	"time"

	"reuseportd/internal/eventloop"
	"reuseportd/internal/service/http/message"
	"reuseportd/internal/service/http/stream"
)

// What a relay or a tunnel holds goes to another process as data.

// State is what a relay holds, but for its stream and its call.
type State struct {
	Body     []byte // of the request, if it came whole
	Whole    bool
	Used     bool // the connection to the server had answered before
	Failed   int  // attempts
	Answered bool // a head has gone to the client
}

// State returns what the relay holds, and its call: it must have a connection.
func (x *Relay) State() (State, stream.Call) {
	return State{x.body, x.whole, x.link.used, x.failed, x.answered}, x.link.call
}

// Resume makes the relay of a stream whose request came to another process, and of its connection to a
// server, which was thawed before it. It returns the call too, which has not begun. There is none if the
// route leads to another upstream, or that hasn't the server any more.
func (rt *Route) Resume(s stream.Stream, r *message.Request, u *eventloop.Conn, st State) (*Relay, stream.Call, error) {
	l := linkOf(u)
	switch {
	case l == nil || l.pool == nil || l.server == nil:
		return nil, nil, errors.New("the server of an exchange is not configured any more")
	case l.pool != rt.pool:
		return nil, nil, errors.New("the route of an exchange leads elsewhere now")
	}
	x := rt.relay(s, r)
	x.body, x.whole, x.failed, x.answered = append(x.body, st.Body...), st.Whole, st.Failed, st.Answered
	x.server, l.used, l.adopted = l.server, st.Used, false
	x.use(l)
	// What was passed before is counted where that was.
	x.in, x.out = -u.Passed(), -s.Took()
	s.Deadline(rt.total)
	if s.BodyRead() {
		u.SetTimeout(rt.patience)
	} else {
		u.SetTimeout(rt.hub.body)
	}
	return x, l.call, nil
}

// linkOf returns the link of a connection to a server, nil if it is none.
func linkOf(c *eventloop.Conn) *link {
	if c == nil {
		return nil
	}
	l, _ := c.State.(*link)
	return l
}

// HasDeadline reports whether the tunnel ends at a time.
func (t *Tunnel) HasDeadline() bool { return t.deadline }

// Tunnel makes a tunnel of a stream from another process, and of its connection to a server, which was thawed
// before it. How much of its deadline is left, the loop knows.
func (h *Hub) Tunnel(s stream.Stream, client, u *eventloop.Conn, deadline bool) (*Tunnel, error) {
	l := linkOf(u)
	if l == nil {
		return nil, errState
	}
	if client.SetTimeout(0); deadline {
		client.SetDeadline(h.loop.Class(longTunnel))
	}
	t := &Tunnel{attempts: attempts{hub: h, pool: l.pool, server: l.server}, s: s, client: client, link: l, deadline: deadline}
	l.user, l.adopted = t, false
	u.SetTimeout(h.quiet)
	return t, nil
}

// longTunnel is the class of a tunnel's deadline that came from another process, which said how much of it
// is left.
const longTunnel = 10_000 * time.Hour
