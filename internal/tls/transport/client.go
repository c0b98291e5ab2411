package transport

import (
	"crypto/tls"
	"errors"
	"strings"
	"sync/atomic"

	"reuseportd/internal/eventloop"
	"reuseportd/internal/tls/handshake"
)

// KindClient is the number of the form in which the client's end of a session is frozen: the same as Kind's.
const KindClient = 2

var errWrongEnd = errors.New("a session of TLS comes as the other end than it is")

// Upstream is what all loops of a worker share of the TLS to one upstream's servers.
type Upstream struct{ now atomic.Pointer[dialer] }

type dialer struct {
	conf     *tls.Config
	sessions *handshake.Sessions
}

// Use makes handshakes that begin from now on use a configuration, which may not be changed any more. They resume no session
// that was made with another one: its server might not be accepted now.
func (u *Upstream) Use(conf *tls.Config) { u.now.Store(&dialer{conf, new(handshake.Sessions)}) }

// Dials makes the transports of an event loop's connections to the servers of an upstream.
type Dials struct {
	loop  *eventloop.Loop
	infos infos
	o     DialOptions
}

// DialOptions are what Dials needs. With a nil Shared it only takes connections that come from other processes.
type DialOptions struct {
	Shared *Upstream
	Warm   func() *Warm // the loop's, when it is needed
	// Name returns what a connection's server is called: its certificate must be valid for that.
	Name func(c *eventloop.Conn) string
	// First appends what a connection's server is sent in the clear, in front of the handshake. It may be nil.
	First func(c *eventloop.Conn, raw []byte) []byte
	// Failed is told of a handshake that has failed. It must not block.
	Failed func(c *eventloop.Conn, why error)
}

// NewDials makes the transports of one upstream's connections in a loop.
func NewDials(l *eventloop.Loop, o DialOptions) *Dials {
	return &Dials{loop: l, infos: make(infos), o: o}
}

// New implements eventloop.Transports.
func (d *Dials) New(c *eventloop.Conn) eventloop.Transport {
	return &Client{session: session{warm: d.o.Warm()}, d: d, c: c}
}

// Thaw implements eventloop.Transports.
func (d *Dials) Thaw(c *eventloop.Conn, kind uint16, state []byte) (eventloop.Transport, error) {
	if kind != KindClient {
		return nil, errors.New("TLS to a server in a form that is not known here")
	}
	s, err := thaw(state, d.o.Warm(), &d.infos, true)
	if err != nil {
		return nil, err
	}
	return &Client{session: s, d: d, c: c}, nil
}

// Client is the transport of one connection to a server.
type Client struct {
	session
	d     *Dials
	c     *eventloop.Conn
	shake *handshake.Shake // nil before it has begun, and when nothing of it is needed any more
	tried bool             // it has begun
	busy  bool             // a signature is made
	freed atomic.Bool
	// tickets is how many more records without data are given to crypto/tls, for tickets: they come in front of the first
	// answer.
	tickets uint8
}

// mostTickets bounds the records behind a handshake that may hold tickets.
const mostTickets = 8

// Shake implements eventloop.Transport.
func (t *Client) Shake(raw, in []byte) (out []byte, n int, done bool, err error) {
	switch {
	case t.busy:
		return raw, 0, false, nil
	case !t.tried:
		u := t.d.o.Shared.now.Load()
		conf := u.conf
		if name := t.d.o.Name(t.c); conf.ServerName == "" && name != "" {
			conf = conf.Clone()
			conf.ServerName = name
		}
		if t.d.o.First != nil {
			raw = t.d.o.First(t.c, raw)
		}
		t.tried, t.shake = true, handshake.Client(conf, u.sessions)
	}
	raw, n, state, err := t.shake.Step(raw, in)
	switch state {
	case handshake.Works:
		t.work()
	case handshake.Failed:
		t.fail(err)
	case handshake.Done:
		err = t.finish()
		return raw, n, err == nil, err
	}
	return raw, n, false, err
}

// work makes a signature beside the loop.
func (t *Client) work() {
	t.busy = true
	beside(t.d.loop, t.shake.Job(), &t.freed, func() {
		t.busy = false
		if !t.freed.Load() {
			t.c.Wake()
		}
	})
}

func (t *Client) fail(err error) {
	t.d.loop.Count().ShakesFailed++
	if t.d.o.Failed != nil {
		t.d.o.Failed(t.c, err)
	}
}

// finish takes the keys from the finished handshake.
func (t *Client) finish() error {
	rec, state, err := t.shake.Result(&t.warm.room)
	if err != nil {
		t.fail(err)
		return err
	}
	t.rec = rec
	t.info = t.d.infos.one(Info{
		Version: state.Version, Suite: state.CipherSuite, Resumed: state.DidResume,
		ServerName: strings.ToLower(state.ServerName), Protocol: state.NegotiatedProtocol,
	})
	if t.shake.Tickets() {
		t.tickets = mostTickets
	} else {
		t.end()
	}
	return nil
}

// end frees the handshake.
func (t *Client) end() {
	if t.shake != nil {
		t.shake.Close()
		t.shake = nil
	}
	t.tickets = 0
}

// Open implements eventloop.Transport. Up to the first data crypto/tls is shown the records as well: they may be tickets.
func (t *Client) Open(raw, to, in []byte) (out []byte, n, used int, err error) {
	for t.tickets > 0 {
		size := handshake.Whole(in[used:])
		if size == 0 {
			return raw, n, used, nil
		}
		rec := append([]byte(nil), in[used:used+size]...) // Open overwrites it
		k := 0
		raw, n, k, err = t.session.Open(raw, to, in[used:used+size])
		if used += k; n > 0 || err != nil || k == 0 {
			t.end()
			break
		}
		if t.tickets--; !t.shake.Ticket(rec) || t.tickets == 0 {
			t.end()
		}
	}
	if err != nil || used == len(in) {
		return raw, n, used, err
	}
	raw, more, k, err := t.session.Open(raw, to[n:], in[used:])
	return raw, n + more, used + k, err
}

// Freeze implements eventloop.Transport.
func (t *Client) Freeze(b []byte) (kind uint16, out []byte) { return KindClient, t.freeze(b) }

// Free implements eventloop.Transport.
func (t *Client) Free() {
	t.freed.Store(true)
	t.end()
	t.wipe()
}

var _ eventloop.Transport = (*Client)(nil)
