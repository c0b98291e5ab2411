package proxy

import (
	"errors"
	"math"
	"time"

	"reuseportd/internal/eventloop"
	"reuseportd/internal/pack"
	"reuseportd/internal/service/http/message"
	"reuseportd/internal/service/http/stream"
)

// What a relay or a tunnel holds goes to another process as data.

// State is what a relay holds, without its stream and its call.
type State struct {
	Body     []byte // of the request, if it came whole
	Whole    bool
	Used     bool // an earlier request was answered on the connection to the server
	Failed   int  // attempts
	Answered bool // the client has been sent a head
}

// State returns what the relay holds, and its call: it must have a connection.
func (x *Relay) State() (State, stream.Call) {
	return State{x.body, x.whole, x.link.used, x.failed, x.answered}, x.link.call
}

// Record writes or reads what a relay holds.
func (st *State) Record(r *pack.Record) {
	r.Bytes(&st.Body)
	r.Bool(&st.Whole)
	r.Bool(&st.Used)
	r.Int(&st.Failed, math.MaxInt)
	r.Bool(&st.Answered)
}

// Freeze implements stream.Responder. It isn't called while the relay has no connection, since its stream
// is busy then.
func (x *Relay) Freeze(b []byte) (kind stream.Kind, out []byte, fds []int) {
	r := pack.Writing(b)
	st, call := x.State()
	where := call.Freeze(nil)
	st.Record(r)
	r.Bytes(&where)
	return stream.KindRelay, r.Written(), nil
}

// Thaw makes a relay from what Freeze has written: see Resume.
func (rt *Route) Thaw(s stream.Stream, r *message.Request, u *eventloop.Conn, b []byte) (*Relay, error) {
	var st State
	var where []byte
	in := pack.Reading(b)
	st.Record(in)
	if in.Bytes(&where); in.End() != nil {
		return nil, errState
	}
	return rt.Resume(s, r, u, st, func(call stream.Call) error { return call.Thaw(r, where) })
}

// Resume makes the relay for a stream that another process has begun. u is its connection to a server,
// which has been thawed before; where restores the state of the call. It returns an error if the route
// leads to another upstream, or the upstream doesn't have the server any more.
func (rt *Route) Resume(s stream.Stream, r *message.Request, u *eventloop.Conn, st State, where func(stream.Call) error) (*Relay, error) {
	l := linkOf(u)
	switch {
	case l == nil || l.pool == nil || l.server == nil:
		return nil, errors.New("the server of an exchange is not configured any more")
	case l.pool != rt.pool:
		return nil, errors.New("the route of an exchange leads elsewhere now")
	}
	l.call.Begin(u, r.Method)
	if err := where(l.call); err != nil {
		return nil, err
	}
	x := rt.relay(s, r)
	x.body, x.whole, x.failed, x.answered = append(x.body, st.Body...), st.Whole, st.Failed, st.Answered
	x.server, l.used, l.adopted = l.server, st.Used, false
	l.user, x.link = x, l
	// The process in which bytes were passed has counted them.
	x.in, x.out = -u.Passed(), -s.Took()
	s.Deadline(rt.total)
	if s.BodyRead() {
		u.SetTimeout(rt.patience)
	} else {
		u.SetTimeout(rt.hub.body)
	}
	return x, nil
}

// linkOf returns the link of a connection, nil if it isn't one to a server.
func linkOf(c *eventloop.Conn) *link {
	if c == nil {
		return nil
	}
	l, _ := c.State.(*link)
	return l
}

// Freeze implements stream.Responder. It writes whether the tunnel has a deadline; the loop has
// everything else.
func (t *Tunnel) Freeze(b []byte) (kind stream.Kind, out []byte, fds []int) {
	r := pack.Writing(b)
	r.Bool(&t.deadline)
	return stream.KindTunnel, r.Written(), nil
}

// ThawTunnel makes the tunnel for a stream from another process, whose connection to a server has been
// thawed before. The loop knows how much of its deadline is left.
func (h *Hub) ThawTunnel(s stream.Stream, client *eventloop.Conn, b []byte) (*Tunnel, error) {
	var deadline bool
	in, u := pack.Reading(b), client.Partner()
	in.Bool(&deadline)
	l := linkOf(u)
	if in.End() != nil || l == nil {
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

// longTunnel is the nominal deadline of a tunnel from another process. How much of it is left comes with
// the connection.
const longTunnel = 10_000 * time.Hour
