// Package transport is TLS as an event loop's transport: a handshake, then records.
//
// It owns a connection from its first byte to its keys, the number of handshakes under way at the same time, and which
// connections are kept warm. It must never read or write a socket, open a file, or know a service.
package transport

import (
	"crypto/tls"
	"errors"
	"strings"
	"sync/atomic"
	"time"
	"unsafe"

	"reuseportd/internal/eventloop"
	"reuseportd/internal/pack"
	"reuseportd/internal/tls/certs"
	"reuseportd/internal/tls/handshake"
	"reuseportd/internal/tls/hello"
	"reuseportd/internal/tls/record"
)

// Kind is the number of the form in which a server's end is frozen: a record.Conn, then Info. It must never be used for
// another form.
const Kind = 1

// Info is what is known about a session.
type Info struct {
	Version, Suite uint16 // as in crypto/tls
	Resumed        bool
	ServerName     string // for which the client asked, "" if none
	Protocol       string // chosen by ALPN, "" if none was
	Subject        string // of the client's verified certificate; "" if there is none
}

// Listener is what all loops of a worker share of one listener's TLS.
type Listener struct {
	conf  atomic.Pointer[tls.Config]
	certs atomic.Pointer[certs.Set]
}

// Use makes handshakes that begin from now on use a configuration and its certificates, neither of which may be
// changed any more.
func (l *Listener) Use(conf *tls.Config, set *certs.Set) {
	l.conf.Store(conf)
	l.certs.Store(set)
}

// Warm is the set of connections of one event loop that have their ciphers ready: those that were active last,
// up to a bound.
type Warm struct {
	room record.Room
	ring [512]*record.Conn
	next int
}

// touch makes a connection's ciphers. If there are too many, those of the connection that
// was active longest ago are freed.
func (w *Warm) touch(c *record.Conn) {
	if c.Warmed() {
		return
	}
	c.Warm()
	if old := w.ring[w.next]; old != nil && old != c {
		old.Cool()
	}
	w.ring[w.next] = c
	w.next = (w.next + 1) % len(w.ring)
}

// Loop makes the transports of one listener in one event loop.
type Loop struct {
	loop   *eventloop.Loop
	shared *Listener
	warm   *Warm
	most   int                                // handshakes at the same time
	failed func(c *eventloop.Conn, why error) // must not block
	active []*shaking                         // handshakes that are under way
	queue  []*shaking                         // that wait for one of them to be done
	asked  bool                               // makePlaces is to be called
	infos  infos
}

// Options are what a Loop needs.
type Options struct {
	Shared *Listener
	Warm   *Warm // of the loop
	Most   int   // handshakes at the same time, at least 1
	Failed func(c *eventloop.Conn, why error)
}

// New makes the transports of a listener in a loop.
func New(l *eventloop.Loop, o Options) *Loop {
	return &Loop{loop: l, shared: o.Shared, warm: o.Warm, most: max(o.Most, 1), failed: o.Failed, infos: make(infos)}
}

// New implements eventloop.Transports.
func (l *Loop) New(c *eventloop.Conn) eventloop.Transport {
	t := &Conn{session: session{warm: l.warm}, l: l, c: c}
	t.shaking = &shaking{t: t}
	return t
}

// Thaw implements eventloop.Transports.
func (l *Loop) Thaw(c *eventloop.Conn, kind uint16, state []byte) (eventloop.Transport, error) {
	if kind != Kind {
		return nil, errors.New("TLS in a form that is not known here")
	}
	s, err := thaw(state, l.warm, &l.infos, false)
	if err != nil {
		return nil, err
	}
	return &Conn{session: s, l: l, c: c}, nil
}

// form writes or reads what another process needs besides the keys.
func (i *Info) form(r *pack.Record) {
	r.Bool(&i.Resumed)
	for _, s := range []*string{&i.ServerName, &i.Protocol, &i.Subject} {
		b := unsafe.Slice(unsafe.StringData(*s), len(*s)) // it is only read
		if r.Bytes(&b); r.Reads() {
			*s = string(b)
		}
	}
}

// Conn is the transport of one connection.
type Conn struct {
	session
	l       *Loop
	c       *eventloop.Conn
	shaking *shaking // nil when the handshake is done
}

// shaking is a connection before its keys.
type shaking struct {
	t     *Conn
	shake *handshake.Shake // nil before it has begun
	since int64            // when it last went on, nanoseconds
	place int              // in Loop.active

	queued, working, freed, stalled bool
}

// Of returns the transport of a connection, nil if it has no TLS.
func Of(c *eventloop.Conn) *Conn {
	t, _ := c.Sealed().(*Conn)
	return t
}

// Covers reports whether a request for a host, given in lower case and without port, may come on this connection: the
// certificate that the client got must be valid for the host, too (RFC 9110 section 15.5.20).
func (t *Conn) Covers(host []byte) bool {
	if len(host) == 0 || string(host) == t.info.ServerName {
		return true
	}
	return t.l.shared.certs.Load().Covers(t.info.ServerName, string(host))
}

// plainAnswer is for clients that send plain HTTP to a TLS listener.
const plainAnswer = "HTTP/1.1 400 Bad Request\r\nServer: reuseportd\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\nContent-Length: 50\r\n\r\n" +
	"This port speaks HTTPS: write https:// in the URL\n"

// Errors of a handshake that don't come from crypto/tls.
var (
	errPlainHTTP = errors.New("a request in plain HTTP")
	errNotTLS    = errors.New("the client does not speak TLS")
	errStalled   = errors.New("the client has said nothing for a second, and others wait for its place")
)

// unexpected is an alert: fatal, unexpected_message (RFC 8446 section 6.2).
var unexpected = []byte{21, 3, 1, 0, 2, 2, 10}

// Shake implements eventloop.Transport.
func (t *Conn) Shake(raw, in []byte) (out []byte, n int, done bool, err error) {
	h := t.shaking
	if h.shake == nil {
		if len(in) == 0 || h.queued {
			return raw, 0, false, nil
		}
		switch _, err := hello.Parse(in); {
		case errors.Is(err, hello.ErrMore):
			return raw, 0, false, nil // half a hello takes up nothing but its bytes
		case errors.Is(err, hello.ErrNotTLS):
			return t.notTLS(raw, in)
		}
		if !h.enter() {
			return raw, 0, false, nil
		}
		h.shake = handshake.Server(t.l.shared.conf.Load())
	}
	if h.working {
		return raw, 0, false, nil
	}
	if h.stalled {
		err = errStalled
		t.fail(err)
		return raw, 0, false, err
	}
	h.since = t.l.loop.Monotonic()
	raw, n, state, err := h.shake.Step(raw, in)
	switch state {
	case handshake.Works:
		h.work()
	case handshake.Done:
		err = t.finish(h)
		return raw, n, err == nil, err
	case handshake.Failed:
		t.fail(err)
	}
	return raw, n, false, err
}

// notTLS answers a client that begins with something else than TLS.
func (t *Conn) notTLS(raw, in []byte) ([]byte, int, bool, error) {
	if len(in) < 3 && hello.MayBeHTTP(in) {
		return raw, 0, false, nil // more bytes will show what it is
	}
	err := errNotTLS
	if hello.MayBeHTTP(in) {
		raw, err = append(raw, plainAnswer...), errPlainHTTP
	} else {
		raw = append(raw, unexpected...)
	}
	t.fail(err)
	return raw, len(in), false, err
}

// enter takes one of the places for handshakes, or waits for one.
func (h *shaking) enter() bool {
	l := h.t.l
	if len(l.active) >= l.most {
		h.queued = true
		l.queue = append(l.queue, h)
		l.loop.Count().ShakesWaited++
		l.makePlacesSoon()
		return false
	}
	h.place = len(l.active)
	l.active = append(l.active, h)
	return true
}

// patience is how long a handshake may stand still while others wait for its place.
const patience = time.Second

// makePlacesSoon has makePlaces called when somebody may have stood still for too long.
func (l *Loop) makePlacesSoon() {
	if !l.asked {
		l.asked = true
		time.AfterFunc(patience/2, func() { l.loop.Post(l.makePlaces) })
	}
}

// makePlaces ends handshakes that stand still, as many as others wait for.
func (l *Loop) makePlaces() {
	l.asked = false
	n, now := len(l.queue), l.loop.Monotonic()
	for _, h := range l.active {
		if n > 0 && !h.working && now-h.since >= int64(patience) {
			h.stalled = true
			h.t.c.Wake()
			n--
		}
	}
	if len(l.queue) > 0 {
		l.makePlacesSoon()
	}
}

// leave frees a place, and gives it to the next that waits.
func (l *Loop) leave(h *shaking) {
	last := len(l.active) - 1
	l.active[h.place] = l.active[last]
	l.active[h.place].place = h.place
	l.active[last] = nil
	l.active = l.active[:last]
	for len(l.queue) > 0 && len(l.active) < l.most {
		next := l.queue[0]
		l.queue = l.queue[1:]
		if !next.freed {
			next.queued = false
			next.t.c.Wake()
			break
		}
	}
	if len(l.queue) == 0 {
		l.queue = nil
	}
}

// signing has room for one signature at a time. A worker has one P more than it has loops: if more goroutines computed, a
// loop that has woken up would wait for all of them.
var signing = make(chan struct{}, 1)

// work makes a signature on a goroutine of its own.
func (h *shaking) work() {
	h.working = true
	job, l := h.shake.Job(), h.t.l
	go func() {
		signing <- struct{}{}
		job()
		<-signing
		l.loop.Post(func() {
			h.working = false
			if !h.freed {
				h.t.c.Wake()
			}
		})
	}()
}

// finish takes the keys from the finished handshake.
func (t *Conn) finish(h *shaking) error {
	rec, state, err := h.shake.Result(&t.l.warm.room)
	if err != nil {
		t.fail(err)
		return err
	}
	t.rec = rec
	info := Info{
		Version: state.Version, Suite: state.CipherSuite, Resumed: state.DidResume,
		ServerName: strings.ToLower(state.ServerName), Protocol: state.NegotiatedProtocol,
	}
	if len(state.VerifiedChains) > 0 {
		info.Subject = state.PeerCertificates[0].Subject.String()
	}
	t.info = t.l.infos.one(info)
	k := t.l.loop.Count()
	if k.Handshakes++; state.DidResume {
		k.Resumed++
	}
	h.end()
	t.shaking = nil
	if !state.DidResume || state.Version == tls.VersionTLS13 {
		// The last word is the client's, and nothing answers it. A client that has Nagle's algorithm on keeps its request until
		// that is acknowledged, which the kernel puts off.
		t.c.AckNow()
	}
	return nil
}

// end ends the coroutine and gives its place to another.
func (h *shaking) end() {
	if h.shake == nil {
		return
	}
	h.shake.Close()
	h.shake = nil
	h.t.l.leave(h)
}

func (t *Conn) fail(err error) {
	t.l.loop.Count().ShakesFailed++
	if t.l.failed != nil {
		t.l.failed(t.c, err)
	}
}

// Freeze implements eventloop.Transport.
func (t *Conn) Freeze(b []byte) (kind uint16, out []byte) { return Kind, t.freeze(b) }

// Free implements eventloop.Transport.
func (t *Conn) Free() {
	if h := t.shaking; h != nil {
		h.freed = true
		h.end()
	}
	t.wipe()
}

var _ eventloop.Transport = (*Conn)(nil)
