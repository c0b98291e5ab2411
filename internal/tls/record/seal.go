package record

import (
	"crypto/tls"
	"encoding/binary"
)

// Seal appends records of head, then tail, to raw. It allocates nothing but what raw has no room for: SealedLen returns
// how much that is.
func (c *Conn) Seal(raw, head, tail []byte) []byte {
	for len(head)+len(tail) > 0 {
		size := MaxPlain
		if c.burst < smallFirst {
			size = smallRecord
		}
		a := head[:min(len(head), size)]
		b := tail[:min(len(tail), size-len(a))]
		raw = c.seal(raw, typeData, a, b)
		head, tail = head[len(a):], tail[len(b):]
		c.burst = uint16(min(int(c.burst)+len(a)+len(b), smallFirst))
		if c.version == tls.VersionTLS13 && c.out.seq >= updateAfter {
			raw = c.update(raw, false)
		}
	}
	return raw
}

// SealedLen returns the most bytes that Seal makes from n.
func (c *Conn) SealedLen(n int) int {
	records := n/MaxPlain + 1 + smallFirst/smallRecord + 1
	return n + records*(header+said+overhead+1) + 2*(header+overhead+8)
}

// seal appends one record of a, then b.
func (c *Conn) seal(raw []byte, kind byte, a, b []byte) []byte {
	h := &c.out
	h.warm(c.version, c.suite)
	n := len(a) + len(b)
	r := c.room
	if c.version == tls.VersionTLS13 {
		// The content's type is at its end, RFC 8446 section 5.2.
		size := n + 1 + overhead
		start := len(raw)
		raw = append(raw, typeData, 3, 3, byte(size>>8), byte(size))
		raw = append(append(append(raw, a...), b...), kind)
		at := start + header
		raw = h.aead.Seal(raw[:at], h.nonce(r), raw[at:], raw[start:at])
		h.seq++
		return raw
	}
	if c.suite.salt == 4 {
		size := said + n + overhead
		raw = append(raw, kind, 3, 3, byte(size>>8), byte(size))
		raw = binary.BigEndian.AppendUint64(raw, h.seq)
		at := len(raw)
		raw = append(append(raw, a...), b...)
		raw = h.aead.Seal(raw[:at], h.nonceSaid(r, raw[at-said:at]), raw[at:], h.extra(r, kind, n))
		h.seq++
		return raw
	}
	size := n + overhead
	raw = append(raw, kind, 3, 3, byte(size>>8), byte(size))
	at := len(raw)
	raw = append(append(raw, a...), b...)
	raw = h.aead.Seal(raw[:at], h.nonce(r), raw[at:], h.extra(r, kind, n))
	h.seq++
	return raw
}

// update changes our own key, and announces that under the old one (RFC 8446 section
// 4.6.3).
func (c *Conn) update(raw []byte, ask bool) []byte {
	msg := []byte{typeKeyUpdate, 0, 0, 1, 0}
	if ask {
		msg[4] = 1
	}
	raw = c.seal(raw, typeHandshake, msg, nil)
	c.out.next(c.suite)
	return raw
}
