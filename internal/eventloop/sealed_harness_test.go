package eventloop_test

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"

	"reuseportd/internal/eventloop"
)

// A transport for tests: records have a length, a number that counts them, and bytes that a key and that number hide.
//
//	client ▶ "hello" key      server ▶ "welcome" key      then records, each way
const (
	xorKind   = 7001
	xorHead   = 4
	xorEnd    = 0xffff // as a length: no more comes
	xorHello  = "hello"
	xorAnswer = "welcome"
	xorAlert  = "alert"
)

// xorSide is one direction.
type xorSide struct {
	key byte
	seq uint16
}

// seal appends one record.
func (d *xorSide) seal(b, p []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(p)))
	b = binary.BigEndian.AppendUint16(b, d.seq)
	at := len(b)
	b = append(b, p...)
	d.hide(b[at:])
	d.seq++
	return b
}

func (d *xorSide) hide(p []byte) {
	for i := range p {
		p[i] ^= d.key ^ byte(d.seq) ^ byte(i)
	}
}

// end appends the last record.
func (d *xorSide) end(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, xorEnd)
	return binary.BigEndian.AppendUint16(b, d.seq)
}

var errRecord = errors.New("a record is out of order")

// open opens the record that in begins with: n is its size, 0 if it isn't whole.
func (d *xorSide) open(to, in []byte) (p []byte, n int, err error) {
	if len(in) < xorHead {
		return nil, 0, nil
	}
	size, seq := int(binary.BigEndian.Uint16(in)), binary.BigEndian.Uint16(in[2:])
	switch {
	case seq != d.seq:
		return nil, 0, errRecord
	case size == xorEnd:
		return nil, xorHead, io.EOF
	case size > eventloop.MaxRecord:
		return nil, 0, errRecord
	case len(in) < xorHead+size:
		return nil, 0, nil
	}
	p = to[:copy(to, in[xorHead:xorHead+size])]
	d.hide(p)
	d.seq++
	return p, xorHead + size, nil
}

// xor implements eventloop.Transport.
type xor struct {
	of      *xors
	dials   bool
	said    bool // hello
	in, out xorSide
}

// xors makes them.
type xors struct {
	t      testing.TB
	record int    // bytes in one that is sealed here
	least  int    // bytes that are awaited before a hello is looked at
	shook  func() // called for each hello, if not nil
	made   int    // and not freed; on the loop's goroutine
}

func (x *xors) New(c *eventloop.Conn) eventloop.Transport {
	x.made++
	return &xor{of: x, dials: c.Outgoing()}
}

func (x *xors) Thaw(_ *eventloop.Conn, kind uint16, b []byte) (eventloop.Transport, error) {
	if kind != xorKind || len(b) != 6 {
		return nil, errors.New("no such transport")
	}
	x.made++
	return &xor{
		of: x, in: xorSide{b[0], binary.BigEndian.Uint16(b[2:])}, out: xorSide{b[1], binary.BigEndian.Uint16(b[4:])},
	}, nil
}

func (x *xor) Shake(raw, in []byte) (out []byte, n int, done bool, err error) {
	want := xorHello
	if x.dials {
		want = xorAnswer
		if !x.said {
			x.said, x.out.key = true, 'd'
			raw = append(raw, xorHello+"d"...)
		}
	}
	if n = len(want) + 1; len(in) < max(n, x.of.least) {
		return raw, 0, false, nil
	}
	if string(in[:len(want)]) != want {
		return append(raw, xorAlert...), 0, false, errRecord
	}
	if x.of.shook != nil {
		x.of.shook()
	}
	if x.in.key = in[n-1]; !x.dials {
		x.out.key = 's'
		raw = append(raw, xorAnswer+"s"...)
	}
	return raw, n, true, nil
}

func (x *xor) Open(raw, to, in []byte) (out []byte, n, used int, err error) {
	for len(to)-n >= eventloop.MaxRecord {
		p, k, err := x.in.open(to[n:], in[used:])
		n, used = n+len(p), used+k
		switch {
		case err == errRecord:
			return append(raw, xorAlert...), n, used, err
		case err != nil || k == 0:
			return raw, n, used, err
		}
	}
	return raw, n, used, nil
}

func (x *xor) Seal(raw, head, tail []byte) []byte {
	for _, p := range [...][]byte{head, tail} {
		for len(p) > 0 {
			n := min(len(p), x.of.record)
			raw = x.out.seal(raw, p[:n])
			p = p[n:]
		}
	}
	return raw
}

func (x *xor) End(raw []byte) []byte { return x.out.end(raw) }

func (x *xor) Freeze(b []byte) (kind uint16, out []byte) {
	b = append(b, x.in.key, x.out.key)
	b = binary.BigEndian.AppendUint16(b, x.in.seq)
	return xorKind, binary.BigEndian.AppendUint16(b, x.out.seq)
}

func (x *xor) Free() { x.of.made-- }

// peer is the other end of a connection that has it, for a test's goroutines.
type peer struct {
	*net.TCPConn
	record  int
	in, out xorSide
	buf     [xorHead + eventloop.MaxRecord]byte
	plain   []byte // opened and not read
	over    error
}

// shaken is a client's end, or a server's, behind its handshake.
func shaken(t testing.TB, c *net.TCPConn, server bool, record int) *peer {
	t.Helper()
	p := &peer{TCPConn: c, record: record}
	mine, its := xorHello+"c", xorAnswer
	if server {
		mine, its = xorAnswer+"b", xorHello
	}
	p.out.key = mine[len(mine)-1]
	if !server {
		_, _ = c.Write([]byte(mine))
	}
	got := make([]byte, len(its)+1)
	if _, err := io.ReadFull(c, got); err != nil || string(got[:len(its)]) != its {
		t.Fatalf("the handshake got %q, error %v", got, err)
	}
	p.in.key = got[len(its)]
	if server {
		_, _ = c.Write([]byte(mine))
	}
	return p
}

// sealed returns what p looks like on its way.
func (c *peer) sealed(p []byte) (b []byte) {
	for len(p) > 0 {
		n := min(len(p), c.record)
		b = c.out.seal(b, p[:n])
		p = p[n:]
	}
	return b
}

func (c *peer) Write(p []byte) (int, error) {
	if _, err := c.TCPConn.Write(c.sealed(p)); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (c *peer) Read(p []byte) (int, error) {
	for len(c.plain) == 0 {
		if c.over != nil {
			return 0, c.over
		}
		if _, err := io.ReadFull(c.TCPConn, c.buf[:xorHead]); err != nil {
			return 0, errors.Join(errors.New("the connection ends without a word"), err)
		}
		size := int(binary.BigEndian.Uint16(c.buf[:]))
		if size != xorEnd {
			if _, err := io.ReadFull(c.TCPConn, c.buf[xorHead:xorHead+size]); err != nil {
				return 0, err
			}
		}
		c.plain, _, c.over = c.in.open(make([]byte, eventloop.MaxRecord), c.buf[:])
	}
	n := copy(p, c.plain)
	c.plain = c.plain[n:]
	return n, nil
}

func (c *peer) CloseWrite() error {
	_, _ = c.TCPConn.Write(c.out.end(nil))
	return c.TCPConn.CloseWrite()
}
