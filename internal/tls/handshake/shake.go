// Package handshake lets crypto/tls do a handshake, and takes the keys out of it.
//
// crypto/tls runs as a coroutine (iter.Pull) over an imitation of a connection: it is given one whole record at a time, so
// it never reads ahead, and what it writes is collected. When it waits for bytes, or for a signature that takes long, it is
// suspended, and uses no thread until Step continues it.
//
// It owns the coroutine, which Close always ends. It must never touch a socket or know an event loop. It bounds the
// length of what a peer sends; crypto/tls judges everything else about it.
package handshake

import (
	"bytes"
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

// State is how far a handshake has come.
type State int

const (
	Waits  State = iota // it waits for more bytes
	Works               // it waits for Job, which must be called elsewhere
	Done                // it is over: Result
	Failed              // it has failed: the error says why
)

// maxInput bounds what a peer sends in one handshake, in bytes: a chain of certificates has a few
// thousand.
const maxInput = 128 << 10

// firstLen is how many bytes contain the random of a hello, however it is split into records.
const firstLen = (2 + 32 + 4) * 6

// ErrTooLong says that a peer sends more than a handshake may have.
var ErrTooLong = errors.New("the handshake has more than 128 KiB")

// Shake is one handshake. It is not safe for concurrent use, and all calls must come from goroutines that are locked to
// their threads, or all from goroutines that aren't: the runtime requires that.
type Shake struct {
	conn   *tls.Conn
	client bool

	next func() (State, bool)
	stop func()
	wait func(State) bool // suspends the coroutine

	record []byte // given to crypto/tls but not read yet
	out    []byte // written but not taken yet
	all    []byte // everything that was written, for counting records
	first  []byte // the first bytes received, with the other side's random
	seen   int    // bytes received
	job    func()
	err    error // crypto/tls'
	open   bool  // a client's handshake is done, and tickets may follow

	secrets secrets
	chain   chain
}

// Server begins a handshake as a server. base is cloned.
func Server(base *tls.Config) *Shake {
	s := &Shake{chain: chain{done: base.ClientAuth == tls.NoClientCert}}
	conf := s.instrument(base)
	s.conn = tls.Server(end{s}, conf)
	s.begin()
	return s
}

// instrument returns a server's configuration that records the secrets, and makes slow signatures
// outside of the loop.
func (s *Shake) instrument(base *tls.Config) *tls.Config {
	conf := base.Clone()
	conf.KeyLogWriter = &s.secrets
	if get := base.GetCertificate; get != nil {
		conf.GetCertificate = func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
			c, err := get(h)
			if err != nil || c == nil {
				return c, err
			}
			return s.beside(c), nil
		}
	}
	// A resumed handshake of TLS 1.2 logs no secret: it is in the ticket.
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

// begin makes the coroutine, which is suspended at once.
func (s *Shake) begin() {
	s.next, s.stop = iter.Pull(func(yield func(State) bool) {
		s.wait = yield
		s.err = s.conn.HandshakeContext(context.Background())
		if s.err != nil || !s.client || s.conn.ConnectionState().Version != tls.VersionTLS13 {
			return
		}
		if s.open = true; yield(Done) {
			_, _ = s.conn.Read(make([]byte, 1)) // takes tickets, and no data ever comes: Ticket
		}
	})
}

// Step continues a handshake with in: all that has come and was not consumed. It appends to raw what must be sent. n is how
// much of in it has consumed: whole records.
func (s *Shake) Step(raw, in []byte) (out []byte, n int, state State, err error) {
	for {
		if len(s.record) == 0 && len(in) > n {
			rec := Whole(in[n:])
			if s.seen == 0 && notTLS(in) {
				rec = header // of what is none: crypto/tls judges by that, however much it announces
			}
			if rec > 0 {
				if s.seen += rec; s.seen > maxInput {
					return raw, n, Failed, ErrTooLong
				}
				s.record = in[n : n+rec]
				if err := s.chain.look(s, s.record); err != nil {
					return raw, n, Failed, err
				}
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
		case !waits, state == Done:
			return raw, n, Done, nil
		case state == Works:
			s.keep()
			return raw, n, Works, nil
		case given == 0 && Whole(in[n:]) == 0:
			return raw, n, Waits, nil
		}
	}
}

// header is the length of a record's, in bytes.
const header = 5

// notTLS reports whether a peer begins with something else.
func notTLS(in []byte) bool {
	const alert, handshake = 21, 22
	return len(in) >= header && (in[0] != alert && in[0] != handshake || in[1] >= 0x10)
}

// keep copies a record that crypto/tls has read in part, since the memory belongs to the
// caller.
func (s *Shake) keep() { s.record = append([]byte(nil), s.record...) }

// Whole returns the length of the record at the beginning of in, 0 if it isn't complete. One that is too long is passed on
// as it is, so that crypto/tls refuses it.
func Whole(in []byte) int {
	if len(in) < header {
		return 0
	}
	n := header + int(in[3])<<8 + int(in[4])
	if n > record.MaxSealed {
		return header
	}
	if len(in) < n {
		return 0
	}
	return n
}

// Job returns the function that must be called elsewhere, on any goroutine, before the
// next Step.
func (s *Shake) Job() func() {
	j := s.job
	s.job = nil
	return j
}

// Close ends the coroutine, if it hasn't ended, and overwrites the secrets.
func (s *Shake) Close() {
	if s.stop != nil {
		s.stop()
	}
	s.secrets.wipe()
	s.chain.free()
}

// errClosed is what crypto/tls reads and writes after Close.
var errClosed = errors.New("the handshake was given up")

// end is the connection that crypto/tls sees.
type end struct{ s *Shake }

// Read returns bytes of one record at a time.
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

// Write collects what is written.
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

// slow is implemented by keys whose signatures take so long that they are made outside of the
// loop.
type slow interface{ Slow() bool }

// beside returns the certificate with a key that signs outside of the loop, if its own
// key is slow.
func (s *Shake) beside(c *tls.Certificate) *tls.Certificate {
	k, ok := c.PrivateKey.(crypto.Signer)
	if sl, isSlow := c.PrivateKey.(slow); !ok || !isSlow || !sl.Slow() {
		return c
	}
	other := *c
	other.PrivateKey = &signer{k, s}
	return &other
}

// signer signs elsewhere while the coroutine is suspended.
type signer struct {
	crypto.Signer
	s *Shake
}

// Sign implements crypto.Signer. The job shares nothing with the coroutine but the result that it leaves, since a
// handshake may be given up while it runs.
func (k *signer) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	type result struct {
		sig []byte
		err error
	}
	made := make(chan result, 1)
	digest = bytes.Clone(digest)
	k.s.job = func() {
		var r result
		defer func() {
			if v := recover(); v != nil {
				r.err = fmt.Errorf("the signature panicked: %v", v)
			}
			made <- r
		}()
		r.sig, r.err = k.Signer.Sign(rand, digest, opts)
	}
	for k.s.wait(Works) {
		select {
		case r := <-made:
			return r.sig, r.err
		default:
		}
	}
	return nil, errClosed
}
