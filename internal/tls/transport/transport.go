// Package transport is TLS as an event loop's transport: a handshake, then records.
//
// It owns a connection from its first byte to its keys, the number of handshakes under way at the same time, and which
// connections are kept warm. It must never read or write a socket, open a file, or know a service.
package transport

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"strings"
	"sync/atomic"
	"unsafe"

	"reuseportd/internal/eventloop"
	"reuseportd/internal/pack"
	"reuseportd/internal/tls/certs"
	"reuseportd/internal/tls/handshake"
	"reuseportd/internal/tls/hello"
	"reuseportd/internal/tls/info"
)

// Kind is the number of the form in which a server's end is frozen: a record.Conn, then Info. It must never be used for
// another form.
const Kind = 1

// Info is what is known about a session.
type Info = info.Session

// Listener is what all loops of a worker share of one listener's TLS.
type Listener struct{ settings atomic.Pointer[Settings] }

// Settings are what handshakes are made with. Nothing of them may be changed once they are used.
type Settings struct {
	Config *tls.Config
	Certs  *certs.Set
	// Clients sign the certificates of clients; nil if those are not asked for any. With Required, each must have one.
	Clients  *certs.Authorities
	Required bool
}

// Use makes handshakes that begin from now on, and connections that arrive, use these settings.
func (l *Listener) Use(s Settings) { l.settings.Store(&s) }

// lets returns an error if a session that was made elsewhere, with other settings, may not go on with these: nobody gets
// past them by having been there before.
func (s *Settings) lets(i *Info) error {
	switch {
	case s.Clients == nil, s.Clients.Has(i.Authority):
		return nil
	case i.Authority != "":
		return errors.New("who has signed the client's certificate is not trusted here")
	case s.Required:
		return errors.New("clients must have a certificate here, and this one has none")
	}
	return nil
}

// Loop makes the transports of one listener in one event loop.
type Loop struct {
	shared *Listener
	warm   *Warm
	failed func(c *eventloop.Conn, why error) // must not block
	places
	infos infos
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
	return &Loop{
		shared: o.Shared, warm: o.Warm, failed: o.Failed, infos: make(infos),
		places: places{loop: l, most: max(o.Most, 1)},
	}
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
	if err := l.shared.settings.Load().lets(s.info); err != nil {
		return nil, err
	}
	return &Conn{session: s, l: l, c: c}, nil
}

// form writes or reads what another process needs besides the keys.
func form(i *Info, r *pack.Record) {
	r.Bool(&i.Resumed)
	for _, s := range []*string{&i.ServerName, &i.Protocol, &i.Subject, &i.Issuer, &i.Serial, &i.Fingerprint, &i.Authority} {
		b := unsafe.Slice(unsafe.StringData(*s), len(*s)) // it is only read
		if r.Bytes(&b); r.Reads() {
			*s = string(b)
		}
	}
}

// maxSubject bounds the names in a client's certificate together, in bytes.
const maxSubject = 4 << 10

// bounded returns an error if there is more to remember of a session than may be: connections are many, and each keeps it.
func bounded(i *Info) error {
	switch {
	case len(i.ServerName) > hello.MaxName, len(i.Protocol) > 255, i.Authority != "" && len(i.Authority) != certs.HashLen:
		return errors.New("the name of the server, of the protocol, or of an authority is too long")
	case len(i.Subject)+len(i.Issuer)+len(i.Serial)+len(i.Fingerprint) > maxSubject:
		return errors.New("the names in the client's certificate are longer than 4 KiB")
	}
	return nil
}

// Conn is the transport of one connection.
type Conn struct {
	session
	l       *Loop
	c       *eventloop.Conn
	shaking *shaking // nil when the handshake is done
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
	return t.l.shared.settings.Load().Certs.Covers(t.info.ServerName, string(host))
}

// plainAnswer is for clients that send plain HTTP to a TLS listener.
const plainAnswer = "HTTP/1.1 400 Bad Request\r\nServer: reuseportd\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\nContent-Length: 50\r\n\r\n" +
	"This port speaks HTTPS: write https:// in the URL\n"

// Errors of a handshake that don't come from crypto/tls.
var (
	errPlainHTTP = errors.New("a request in plain HTTP")
	errNotTLS    = errors.New("the client does not speak TLS")
	errStalled   = errors.New("the client has not answered for a second, and others wait for its place")
)

// Alerts, fatal: unexpected_message and decode_error (RFC 8446 section 6.2).
var (
	unexpected  = []byte{21, 3, 1, 0, 2, 2, 10}
	undecodable = []byte{21, 3, 1, 0, 2, 2, 50}
)

// Shake implements eventloop.Transport.
func (t *Conn) Shake(raw, in []byte) (out []byte, n int, done bool, err error) {
	h := t.shaking
	switch h.stage {
	case fresh:
		if goesOn, err := t.begins(&raw, in); !goesOn {
			if err != nil {
				n = len(in)
			}
			return raw, n, false, err
		}
	case waits, signs:
		return raw, 0, false, nil
	}
	if h.shake == nil {
		h.shake = handshake.Server(t.l.shared.settings.Load().Config)
	}
	before := len(raw)
	raw, n, state, err := h.shake.Step(raw, in)
	if len(raw) > before {
		h.since = t.l.loop.Monotonic()
	}
	switch state {
	case handshake.Works:
		t.l.sign(h)
	case handshake.Done:
		err = t.finish(h)
		return raw, n, err == nil, err
	case handshake.Failed:
		t.fail(err)
	}
	return raw, n, false, err
}

// begins looks at what a client begins with, and reports whether it is a hello and there is a place for its handshake.
// Half a hello takes up nothing but its bytes. crypto/tls sees only what is within the bounds of the package hello.
func (t *Conn) begins(raw *[]byte, in []byte) (bool, error) {
	if len(in) == 0 {
		return false, nil
	}
	switch _, err := hello.Parse(in); {
	case err == nil:
		return t.l.enter(t.shaking), nil
	case errors.Is(err, hello.ErrMore):
		return false, nil
	case errors.Is(err, hello.ErrNotTLS):
		return false, t.notTLS(raw, in)
	default:
		*raw = append(*raw, undecodable...)
		t.fail(err)
		return false, err
	}
}

// notTLS answers a client that begins with something else than TLS, once it is known what.
func (t *Conn) notTLS(raw *[]byte, in []byte) error {
	if len(in) < 3 && hello.MayBeHTTP(in) {
		return nil // more bytes will show what it is
	}
	err := errNotTLS
	if hello.MayBeHTTP(in) {
		*raw, err = append(*raw, plainAnswer...), errPlainHTTP
	} else {
		*raw = append(*raw, unexpected...)
	}
	t.fail(err)
	return err
}

// finish takes the keys from the finished handshake.
func (t *Conn) finish(h *shaking) error {
	rec, state, err := h.shake.Result(&t.l.warm.room)
	if err != nil {
		t.fail(err)
		return err
	}
	known := Info{
		Version: state.Version, Suite: state.CipherSuite, Resumed: state.DidResume,
		ServerName: strings.ToLower(state.ServerName), Protocol: state.NegotiatedProtocol,
	}
	if all := state.VerifiedChains; len(all) > 0 {
		c := state.PeerCertificates[0]
		known.Subject, known.Issuer = info.Printable(c.Subject.String()), info.Printable(c.Issuer.String())
		known.Serial = c.SerialNumber.Text(16)
		sum := sha256.Sum256(c.Raw)
		known.Fingerprint = hex.EncodeToString(sum[:])
		known.Authority = certs.Hash(all[0][len(all[0])-1])
	}
	if err := bounded(&known); err != nil {
		rec.Wipe()
		t.fail(err)
		return err
	}
	t.rec, t.info = rec, t.l.infos.one(known)
	k := t.l.loop.Count()
	if k.Handshakes++; state.DidResume {
		k.Resumed++
	}
	t.l.free(h)
	t.shaking = nil
	if !state.DidResume || state.Version == tls.VersionTLS13 {
		// The last word is the client's, and nothing answers it. A client that has Nagle's algorithm on keeps its request until
		// that is acknowledged, which the kernel puts off.
		t.c.AckNow()
	}
	return nil
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
		t.l.free(h)
	}
	t.wipe()
}

var _ eventloop.Transport = (*Conn)(nil)
