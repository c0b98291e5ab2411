package record

import (
	"crypto/tls"
	"errors"
	"fmt"
)

// The content types and their bounds: RFC 8446 section 5.1 and 5.2, RFC 5246 section 6.2.
const (
	typeChangeCipherSpec = 20
	typeAlert            = 21
	typeHandshake        = 22
	typeData             = 23

	header   = 5
	overhead = 16 // the tag
	said     = 8  // bytes of the nonce that a record of TLS 1.2's GCM contains

	// MaxPlain is how many bytes a record holds at most.
	MaxPlain = 16 << 10
	max13    = MaxPlain + 256
	max12    = MaxPlain + 2048
	// MaxSealed is how many bytes a record takes up at most.
	MaxSealed = header + max12
)

// Bounds of what a peer may send besides data.
const (
	// maxUseless bounds consecutive records without use: empty ones, warnings.
	maxUseless = 16
	// maxUpdates bounds key updates, each of which costs as much as sealing a few KiB: so many at once, and one more for
	// each updateEvery bytes of data that came.
	maxUpdates  = 32
	updateEvery = 1 << 20
	// updateAfter is after how many records our own key is changed: far below what RFC 8446
	// section 5.5 allows.
	updateAfter = 1 << 24
)

// How an answer is split into records: small ones first, which can be opened as soon as one packet has come, then large
// ones.
const (
	smallRecord = 1370
	smallFirst  = 24 << 10
)

// Conn is the record layer of one connection. It is not safe for concurrent use.
type Conn struct {
	suite   *suite
	room    *Room
	in, out half

	version, id uint16
	credit      uint32 // bytes of data since the last that was taken off updates
	burst       uint16 // bytes that were sealed since data came last
	useless     uint8
	updates     uint8
	client      bool // it is the client's end
	ended       bool // close_notify was sent
}

// errTooMuch says that a peer sends too many records without use.
var errTooMuch = errors.New("the peer sends record after record that bring nothing")

// Keys are the result of a handshake.
type Keys struct {
	Version, Suite uint16
	Client         bool // this is the client's end
	// In and Out are the traffic secrets of TLS 1.3.
	In, Out []byte
	// Master and the randoms are of TLS 1.2.
	Master, ClientRandom, ServerRandom []byte
	// InSeq and OutSeq are how many records the handshake has opened and sealed with the
	// keys.
	InSeq, OutSeq uint64
}

// New makes a connection from the result of a handshake.
func New(k Keys, room *Room) (*Conn, error) {
	s, err := find(k.Version, k.Suite)
	if err != nil {
		return nil, err
	}
	c := &Conn{version: k.Version, id: k.Suite, suite: s, client: k.Client, room: room}
	if k.Version == tls.VersionTLS13 {
		if n := s.hash().Size(); len(k.In) != n || len(k.Out) != n {
			return nil, errors.New("a secret has the wrong length")
		}
		c.in.secret, c.out.secret = append([]byte(nil), k.In...), append([]byte(nil), k.Out...)
	} else {
		if len(k.Master) != 48 || len(k.ClientRandom) != 32 || len(k.ServerRandom) != 32 {
			return nil, errors.New("the master secret or a random has the wrong length")
		}
		seed := append(append([]byte(nil), k.ServerRandom...), k.ClientRandom...)
		block := s.prf(k.Master, "key expansion", seed, 2*s.key+2*s.salt)
		ours, theirs := &c.out, &c.in
		if !k.Client {
			ours, theirs = theirs, ours
		}
		// The client's key, the server's, the client's salt, the server's: RFC 5246 section 6.3.
		keys, salts := block[:2*s.key], block[2*s.key:]
		ours.secret = append(append([]byte(nil), keys[:s.key]...), salts[:s.salt]...)
		theirs.secret = append(append([]byte(nil), keys[s.key:]...), salts[s.salt:]...)
		clear(block)
	}
	c.in.seq, c.out.seq = k.InSeq, k.OutSeq
	return c, nil
}

// Version returns the version of TLS, a number of crypto/tls.
func (c *Conn) Version() uint16 { return c.version }

// Client reports whether this is the client's end.
func (c *Conn) Client() bool { return c.client }

// Suite returns the number of the cipher suite.
func (c *Conn) Suite() uint16 { return c.id }

// Warm makes the ciphers from the keys.
func (c *Conn) Warm() {
	c.in.warm(c.version, c.suite)
	c.out.warm(c.version, c.suite)
}

// Warmed reports whether Warm has nothing to do.
func (c *Conn) Warmed() bool { return c.in.ready != nil && c.out.ready != nil }

// Cool frees what Warm has made.
func (c *Conn) Cool() {
	c.in.cool()
	c.out.cool()
}

// Wipe overwrites the keys. The connection can't be used after it.
func (c *Conn) Wipe() {
	c.in.wipe()
	c.out.wipe()
}

// Alert is an error that the peer is sent, or has sent.
type Alert struct {
	Code  byte // RFC 8446 section 6
	Their bool // the peer has sent it
	Err   error
}

func (a *Alert) Error() string {
	if a.Their {
		return fmt.Sprintf("the peer says: %v", tls.AlertError(a.Code))
	}
	return fmt.Sprintf("%v (%v)", a.Err, tls.AlertError(a.Code))
}

func (a *Alert) Unwrap() error { return a.Err }

// The alerts that are sent here.
const (
	alertCloseNotify       = 0
	alertUnexpectedMessage = 10
	alertBadRecordMAC      = 20
	alertRecordOverflow    = 22
	alertDecodeError       = 50
	alertProtocolVersion   = 70
	alertUserCanceled      = 90
	alertNoRenegotiation   = 100
)

// refuse appends a fatal alert to raw, and returns it as an error.
func (c *Conn) refuse(raw []byte, code byte, text string) ([]byte, error) {
	if !c.ended {
		raw = c.seal(raw, typeAlert, []byte{2, code}, nil)
		c.ended = true
	}
	return raw, &Alert{Code: code, Err: errors.New(text)}
}

// End appends close_notify to raw, once.
func (c *Conn) End(raw []byte) []byte {
	if c.ended {
		return raw
	}
	raw = c.seal(raw, typeAlert, []byte{1, alertCloseNotify}, nil)
	c.ended = true
	return raw
}
