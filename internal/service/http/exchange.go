package http

import (
	"net/netip"

	"golang.org/x/sys/unix"

	"reuseportd/internal/config"
	"reuseportd/internal/eventloop"
	"reuseportd/internal/service/http/h1"
	"reuseportd/internal/service/http/message"
	"reuseportd/internal/upstream"
)

// exchange is one request that a server is to answer, and then the tunnel that may come
// of it. It holds the request's head, never more of its body than came with it.
type exchange struct {
	h      *Handler
	to     *passage
	pool   *Pool            // nil for a tunnel that came from another process, of an upstream that is gone
	client *eventloop.Conn  // nil when a tunnel's has closed
	link   *link            // nil while there is none
	server *upstream.Server // counted as in use; nil while none is
	tried  upstream.Tried
	key    uint64 // that a server is chosen by
	origin origin

	attempts int  // that failed
	fresh    bool // no connection that was used before is to be used
	late     bool // an attempt failed because its time was over
	local    bool // …or for want of descriptors or ports here

	// The request.
	raw     []byte    // its head as it came, then the body if that came whole
	head    int       // bytes of raw
	sent    bool      // all of it has been read
	whole   bool      // …and is in raw: it can be sent once more
	last    bool      // no byte behind it had been read
	body    h1.Chunks // where in a chunked one
	method  string    // "GET", "HEAD" or "" for others
	minor   byte
	chunked bool
	safe    bool // to be repeated if it wasn't answered
	keeps   bool // the client lets the connection live
	upgrade bool

	// The response.
	begun   bool // some of it has come
	scan    int  // bytes of its head that were searched
	phase   step
	status  int
	framing h1.Framing
	bare    bool // no coding is written for the client
	reuse   bool // the server lets the connection live
	closing bool // the client's ends behind it
	left    int64
	chunks  h1.Chunks
	content int64 // bytes that came, for the access log

	unsent int64 // in a tunnel that was quiet: what lay in the sockets then, in bytes

	in, out uint64 // bytes that came from servers and went to them, unless they were passed
}

// step is where in a response an exchange is.
type step uint8

const (
	beforeHead step = iota
	inContent
	inTunnel
)

// passage is a route's way to its servers, in one loop.
type passage struct {
	*proxy
	pool            *Pool
	patience, total eventloop.Class // of ResponseTimeout and TotalTimeout
}

// maxKept bounds the room of an exchange that is used again, in bytes.
const maxKept = 16 << 10

// maxHeld bounds what is kept of a request so that it can be sent once more, in bytes.
const maxHeld = 64 << 10

// forward passes on the request in h.req, whose head is in[:n], and returns how much of
// the input it has used.
func (h *Handler) forward(c *eventloop.Conn, to *passage, in []byte, n int) int {
	r := &h.req
	if _, ok := h.optionsOf(r.Lines, r.MoreOptions); !ok {
		h.refuse(c, 400)
		return len(in)
	}
	h.loop.Count().Requests++
	c.CountServed()
	st := h.state(c)
	st.phase = inExchange
	x := h.newExchange(c, to)
	st.x = x
	x.head = n
	switch {
	case r.Chunked:
	case r.Length == 0, r.Length <= int64(len(in)-n) && n+int(r.Length) <= maxHeld:
		n += int(r.Length)
		x.sent, x.whole = true, true
	}
	x.raw = append(x.raw[:0], in[:n]...)
	x.last = n == len(in)
	h.chargeHeads(st)
	c.Hold() // what follows waits for the answer, a body for a connection
	if c.SetTimeout(0); to.total != 0 {
		c.SetDeadline(to.total)
	}
	h.attempt(x, true)
	return n
}

// newExchange begins an exchange for h.req.
func (h *Handler) newExchange(c *eventloop.Conn, to *passage) *exchange {
	x, ok := h.exchanges.Take()
	if !ok {
		x = new(exchange)
	}
	r := &h.req
	*x = exchange{
		h: h, to: to, pool: to.pool, client: c, raw: x.raw[:0],
		minor: r.Minor, chunked: r.Chunked, keeps: r.KeepAlive, upgrade: r.Upgrade,
	}
	switch string(r.Method) {
	case "GET":
		x.method, x.safe = "GET", true
	case "HEAD":
		x.method, x.safe = "HEAD", true
	case "OPTIONS", "PUT", "DELETE", "TRACE":
		x.safe = true
	}
	x.origin = to.origin(h.peer(c))
	x.key = to.key(r, x.origin.client)
	return x
}

// peer returns a client's address. The kernel is asked once for each connection.
func (h *Handler) peer(c *eventloop.Conn) netip.Addr {
	addr, known := h.peers[c]
	if !known {
		addr = c.Remote().Addr()
		h.peers[c] = addr
	}
	return addr
}

// letGo takes an exchange's room back.
func (h *Handler) letGo(x *exchange) {
	raw := x.raw
	*x = exchange{}
	if cap(raw) <= maxKept {
		x.raw = raw[:0]
		h.exchanges.Keep(x, maxFree)
	}
}

// attempt gets a connection to a server and sends the request, or fails. parsed says that
// h.req is the request.
func (h *Handler) attempt(x *exchange, parsed bool) {
	pool := x.pool
	x.client.SetBusy(true) // until there is a connection
	for {
		if x.server == nil {
			s, why := pool.chooser.Pick(h.loop.Monotonic(), x.key, &x.tried)
			if s == nil {
				h.none(x, why)
				return
			}
			x.server = s
		}
		if !x.fresh {
			if l := pool.take(x.server, !x.safe || !x.whole); l != nil {
				l.x, x.link = x, l
				h.request(x, parsed)
				return
			}
		}
		c, err := h.loop.Dial(pool.svc, x.server.Address())
		if err == nil {
			l := pool.link(x.server, c)
			l.x, x.link = x, l
			c.SetTimeout(pool.connect)
			return
		}
		errno, _ := err.(unix.Errno)
		if x.blame(upstream.ReasonOf(errno)); !x.another() {
			h.fail(x, x.gateway())
			return
		}
	}
}

// request sends the request on the connection that there is for it by now.
func (h *Handler) request(x *exchange, parsed bool) {
	c, u := x.client, x.link.conn
	h.loop.Join(c, u)
	if !parsed {
		h.recallOf(x)
	}
	opts, _ := h.optionsOf(h.req.Lines, h.req.MoreOptions)
	buf := u.Reserve(len(x.raw) + len(x.to.request.set) + 512)
	buf = x.to.appendRequest(buf, &h.req, x.origin, x.link.server.Host(), opts)
	buf = append(buf, x.raw[x.head:]...)
	x.out += uint64(len(buf))
	u.Commit(buf)
	u.Push()
	if x.link == nil || x.link.conn != u {
		return // that has failed, and been seen to
	}
	c.SetBusy(false)
	switch {
	case x.sent:
		u.SetTimeout(x.to.patience)
	case x.chunked:
		u.SetTimeout(h.body)
		c.Duplex(true) // until it holds
		c.Release()
	default:
		u.SetTimeout(h.body)
		c.Pass(h.req.Length)
	}
}

// recallOf parses an exchange's head once more.
func (h *Handler) recallOf(x *exchange) {
	h1.ParseRequest(x.raw[:x.head], 0, h.site.limit, &h.req, &h.scratch)
}

// forwardBody passes on what there is of a chunked body.
func (h *Handler) forwardBody(c *eventloop.Conn, x *exchange, in []byte) int {
	if !x.chunked || x.sent || x.link == nil || x.link.conn.Connecting() {
		return 0 // the loop passes it on, or it has to wait
	}
	u := x.link.conn
	buf := u.Reserve(len(in) + 64)
	before := len(buf)
	buf, n, status := recode(&x.body, buf, in, h.site.limit, &x.to.request, false)
	x.out += uint64(len(buf) - before)
	u.Commit(buf)
	if c.Spend(x.body.Work()); status != 0 {
		h.fail(x, status)
		return len(in)
	}
	if x.body.Step == h1.Done {
		h.requestDone(x)
		x.last = n == len(in)
	} else {
		u.SetTimeout(h.body)
	}
	u.Push()
	switch {
	case x.link == nil || x.link.conn != u:
	case !x.sent && !c.Brings(n):
		h.TooSlow(c)
		return len(in)
	default:
		c.WaitFor(u)
	}
	return n
}

// requestDone is called when all of a request's body has been read: what follows waits.
func (h *Handler) requestDone(x *exchange) {
	x.sent = true
	x.client.Duplex(false)
	x.client.Hold()
	x.link.conn.SetTimeout(x.to.patience)
}

// key is what a server is chosen by, where that matters.
func (to *passage) key(r *message.Request, client netip.Addr) uint64 {
	conf := to.pool.conf
	switch {
	case conf.Balance != config.BalanceHash:
		return 0
	case conf.HashHeader == "":
		return upstream.KeyOfAddr(client)
	}
	for lines := r.Lines; len(lines) > 0; {
		var name, value []byte
		if name, value, lines = message.NextField(lines); message.Same(name, to.pool.hashHeader) && len(value) > 0 {
			return upstream.KeyOf(value)
		}
	}
	return upstream.KeyOfAddr(client) // or all clients without it would have one server
}
