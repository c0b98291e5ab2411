// Package handshake has crypto/tls do a handshake, and takes the keys out of it.
//
// crypto/tls runs as a coroutine (iter.Pull) over a connection that is none: it is given one whole record at a time, so it
// never reads ahead, and what it writes is collected. Where it waits for bytes, or for a signature that takes long, it is left
// where it stands, on no thread and in no goroutine of its own, until Step goes on with it.
//
// It owns the coroutine, which Close always ends. It never touches a socket, and knows no event loop. What a peer sends
// is bounded in length; everything else about it is crypto/tls' to judge.
package handshake

import (
	"context"
	"crypto"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"time"

	"reuseportd/internal/tls/record"
)

// State is where a handshake stands.
type State int

const (
	Waits  State = iota // for more bytes
	Works               // for Job, to be called elsewhere
	Done                // it is over: Result
	Failed              // it is over, for good: the error says why
)

// maxInput bounds what a peer sends in one handshake, in bytes: a chain of certificates has some thousand.
const maxInput = 128 << 10

// firstLen is how many bytes have the random of a hello in them, however it is cut into records.
const firstLen = (2 + 32 + 4) * 6

// ErrTooLong says that a peer sends more than a handshake takes.
var ErrTooLong = errors.New("the handshake has more than 128 KiB")

// Shake is one handshake. It is not safe for concurrent use, and each call must be made by a goroutine that is locked to
// its thread, or not, as the first one was: the runtime insists on it.
type Shake struct {
	conn   *tls.Conn
	client bool

	next func() (State, bool)
	stop func()
	wait func(State) bool // by which the coroutine waits

	record []byte // given and not read yet
	out    []byte // written and not taken
	all    []byte // all that was written, to count records in
	first  []byte // the first that came, with the other side's random in it
	seen   int    // bytes that came
	job    func()
	err    error // crypto/tls'

	secrets secrets
}

// Server begins a handshake of a server. base is cloned.
func Server(base *tls.Config) *Shake {
	s := &Shake{}
	conf := s.instrument(base)
	s.conn = tls.Server(end{s}, conf)
	s.begin()
	return s
}

// Client begins a handshake of a client. base is cloned.
func Client(base *tls.Config) *Shake {
	s := &Shake{client: true}
	conf := s.instrument(base)
	s.conn = tls.Client(end{s}, conf)
	s.begin()
	return s
}

// instrument returns a configuration that tells the secrets, and signs beside.
func (s *Shake) instrument(base *tls.Config) *tls.Config {
	conf := base.Clone()
	conf.KeyLogWriter = &s.secrets
	if s.client {
		return conf
	}
	if get := base.GetCertificate; get != nil {
		conf.GetCertificate = func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
			c, err := get(h)
			if err != nil || c == nil {
				return c, err
			}
			return s.beside(c), nil
		}
	}
	// A resumed handshake of TLS 1.2 tells no secret: it is in the ticket.
	conf.WrapSession = func(cs tls.ConnectionState, ss *tls.SessionState) ([]byte, error) {
		if cs.Version == tls.VersionTLS12 {
			s.secrets.put(ss)
		}
		return conf.EncryptTicket(cs, ss)
	}
	conf.UnwrapSession = func(ticket []byte, cs tls.ConnectionState) (*tls.SessionState, error) {
		ss, err := conf.DecryptTicket(ticket, cs)
		if err == nil && ss != nil {
			s.secrets.resume(ss)
		}
		return ss, err
	}
	return conf
}

// begin makes the coroutine, which waits at once.
func (s *Shake) begin() {
	s.next, s.stop = iter.Pull(func(yield func(State) bool) {
		s.wait = yield
		s.err = s.conn.HandshakeContext(context.Background())
	})
}

// Step goes on with a handshake, with all that has come and was not consumed. What is to be sent is appended to raw. n is how
// much of in was consumed: whole records.
func (s *Shake) Step(raw, in []byte) (out []byte, n int, state State, err error) {
	for {
		if len(s.record) == 0 && len(in) > n {
			if rec := whole(in[n:]); rec > 0 {
				if s.seen += rec; s.seen > maxInput {
					return raw, n, Failed, ErrTooLong
				}
				s.record = in[n : n+rec]
				s.first = append(s.first, s.record[:min(len(s.record), firstLen-len(s.first))]...)
				n += rec
			}
		}
		given := len(s.record)
		state, waits := s.next()
		raw = append(raw, s.out...)
		s.out = s.out[:0]
		switch {
		case !waits && s.err != nil:
			return raw, n, Failed, s.err
		case !waits:
			return raw, n, Done, nil
		case state == Works:
			s.keep()
			return raw, n, Works, nil
		case given == 0 && whole(in[n:]) == 0:
			return raw, n, Waits, nil
		}
	}
}

// keep copies a record that crypto/tls has read in part, for the memory is the caller's.
func (s *Shake) keep() { s.record = append([]byte(nil), s.record...) }

// whole returns the length of the record that in begins with, 0 if it isn't whole. One that is too long is given as it is, for
// crypto/tls to refuse.
func whole(in []byte) int {
	if len(in) < 5 {
		return 0
	}
	n := 5 + int(in[3])<<8 + int(in[4])
	if n > record.MaxSealed {
		return min(len(in), 5)
	}
	if len(in) < n {
		return 0
	}
	return n
}

// Job returns what is to be called elsewhere, on any goroutine, before the next Step.
func (s *Shake) Job() func() {
	j := s.job
	s.job = nil
	return j
}

// Close ends the coroutine, if it is not over, and forgets the secrets.
func (s *Shake) Close() {
	if s.stop != nil {
		s.stop()
	}
	s.secrets.wipe()
}

// errClosed is what crypto/tls reads and writes after Close.
var errClosed = errors.New("the handshake was given up")

// end is the connection that crypto/tls sees.
type end struct{ s *Shake }

// Read gives of one record at a time.
func (e end) Read(p []byte) (int, error) {
	s := e.s
	for len(s.record) == 0 {
		if !s.wait(Waits) {
			return 0, errClosed
		}
	}
	n := copy(p, s.record)
	s.record = s.record[n:]
	return n, nil
}

// Write collects.
func (e end) Write(p []byte) (int, error) {
	e.s.out = append(e.s.out, p...)
	e.s.all = append(e.s.all, p...)
	return len(p), nil
}

func (end) Close() error                     { return nil }
func (end) LocalAddr() net.Addr              { return nil }
func (end) RemoteAddr() net.Addr             { return nil }
func (end) SetDeadline(time.Time) error      { return nil }
func (end) SetReadDeadline(time.Time) error  { return nil }
func (end) SetWriteDeadline(time.Time) error { return nil }

var _ net.Conn = end{}

// slow is what a key says of itself whose signatures take long enough to be made beside the loop.
type slow interface{ Slow() bool }

// beside returns a certificate whose key signs beside the loop, if it is slow.
func (s *Shake) beside(c *tls.Certificate) *tls.Certificate {
	k, ok := c.PrivateKey.(crypto.Signer)
	if sl, isSlow := c.PrivateKey.(slow); !ok || !isSlow || !sl.Slow() {
		return c
	}
	other := *c
	other.PrivateKey = &signer{k, s}
	return &other
}

// signer signs elsewhere, while the coroutine waits.
type signer struct {
	crypto.Signer
	s *Shake
}

// Sign implements crypto.Signer.
func (k *signer) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) (sig []byte, err error) {
	done := false
	k.s.job = func() {
		defer func() {
			if v := recover(); v != nil {
				err = fmt.Errorf("the signature panicked: %v", v)
			}
			done = true
		}()
		sig, err = k.Signer.Sign(rand, digest, opts)
	}
	for !done {
		if !k.s.wait(Works) {
			return nil, errClosed
		}
	}
	return sig, err
}
