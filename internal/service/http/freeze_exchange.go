package http

import (
	"errors"

	"reuseportd/internal/eventloop"
	"reuseportd/internal/pack"
	"reuseportd/internal/service/http/h1"
)

// kindExchange is a client's side of an exchange whose request has a connection.
const kindExchange = "http-exchange.1"

// kind names the form in which an exchange is frozen.
func (x *exchange) kind() string {
	if x.phase == inTunnel {
		return kindTunnel
	}
	return kindExchange
}

// freeze writes down what is not in the loop. What the request was is read from its head
// again, by who takes it over.
func (x *exchange) freeze(b []byte) []byte {
	if x.phase == inTunnel {
		return x.freezeTunnel(b)
	}
	b = pack.Bytes(b, x.raw)
	for _, v := range [...]uint64{
		uint64(x.head), flag(x.sent), flag(x.whole), flag(x.last), flag(x.link.used), uint64(x.attempts),
		flag(x.begun), uint64(x.scan), uint64(x.phase), uint64(x.status), uint64(x.framing),
		flag(x.bare), flag(x.reuse), flag(x.closing), uint64(x.left + 1), uint64(x.content),
	} {
		b = pack.Uint(b, v)
	}
	return freezeChunks(&x.chunks, freezeChunks(&x.body, b))
}

func freezeChunks(k *h1.Chunks, b []byte) []byte {
	for _, v := range [...]uint64{uint64(k.Step), uint64(k.Left), uint64(k.Total), uint64(k.Lines), flag(k.Last)} {
		b = pack.Uint(b, v)
	}
	return b
}

const maxInt = 1<<63 - 1

func thawChunks(k *h1.Chunks, r *pack.Reader) {
	*k = h1.Chunks{
		Step: h1.ChunkStep(r.Int(int(h1.Done))), Left: int64(r.Int(maxInt)), Total: int64(r.Int(maxInt)),
		Lines: r.Int(1 << 30), Last: r.Int(1) == 1,
	}
}

// thawExchange goes on with an exchange of a connection and its partner, which was thawed
// before it: if the request's route leads to the same upstream still, and that has the
// server. Else it ends where it was.
func (h *Handler) thawExchange(c *eventloop.Conn, b []byte, fds []int) error {
	l := linkOf(c.Partner())
	if l == nil || l.pool == nil || l.server == nil {
		return errors.New("the server of an exchange is not configured any more")
	}
	r := pack.NewReader(b)
	raw, head := r.Bytes(), r.Int(maxInt)
	if r.Err() != nil || head > len(raw) || wantFiles(fds, 0) != nil {
		return errState
	}
	if n, status := h1.ParseRequest(raw[:head], 0, h.site.limit, &h.req, &h.scratch); status != 0 || n != head {
		return errors.New("the new limits are too low for a request that is under way")
	}
	to := h.site.find(&h.req)
	if to == nil || to.proxy == nil || h.passages[to.proxy.number].pool != l.pool {
		return errors.New("the route of an exchange leads elsewhere now")
	}
	x := h.newExchange(c, &h.passages[to.proxy.number])
	x.raw, x.head = append(x.raw, raw...), head
	if !x.thaw(r, l) {
		h.letGo(x)
		return errState
	}
	l.x, l.adopted = x, false
	x.link, x.server = l, l.server
	st := h.state(c)
	st.phase, st.x = inExchange, x
	h.chargeHeads(st)
	h.rearm(x)
	return nil
}

// thaw reads what freeze wrote behind the head.
func (x *exchange) thaw(r *pack.Reader, l *link) bool {
	yes := func() bool { return r.Int(1) == 1 }
	x.sent, x.whole, x.last, l.used, x.attempts = yes(), yes(), yes(), yes(), r.Int(maxInt)
	x.begun, x.scan, x.phase, x.status, x.framing = yes(), r.Int(h1.MaxResponseHead), step(r.Int(int(inContent))), r.Int(999), h1.Framing(r.Int(int(h1.ToClose)))
	x.bare, x.reuse, x.closing, x.left, x.content = yes(), yes(), yes(), int64(r.Int(maxInt))-1, int64(r.Int(maxInt))
	thawChunks(&x.body, r)
	thawChunks(&x.chunks, r)
	// What was passed before is counted where that was.
	x.in, x.out = -l.conn.Passed(), -x.client.Passed()
	return r.End() == nil && (x.framing != h1.ByLength || x.left >= 0)
}

// rearm has an exchange wait for what it waited for elsewhere.
func (h *Handler) rearm(x *exchange) {
	c, u := x.client, x.link.conn
	if c.SetTimeout(0); x.to.total != 0 {
		c.SetDeadline(x.to.total)
	}
	if !x.sent {
		c.Duplex(x.chunked)
		u.SetTimeout(h.body)
		return
	}
	c.Hold()
	u.SetTimeout(x.to.patience)
}

// linkOf returns the link of a connection to a server, nil if it is none.
func linkOf(c *eventloop.Conn) *link {
	if c == nil {
		return nil
	}
	l, _ := c.State.(*link)
	return l
}
