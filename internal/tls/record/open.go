package record

import (
	"crypto/tls"
	"io"
)

// Handshake messages that may come after the handshake: RFC 8446 section 4.6.
const (
	typeNewSessionTicket = 4
	typeKeyUpdate        = 24
)

// Open opens the records at the beginning of in, one after another, and writes their content to to. It returns n, the bytes
// written, and used, the bytes of in consumed. It stops before a record that isn't complete, or for which there may be no
// room. It appends to raw what must be sent to the peer. It overwrites in. It returns io.EOF at the peer's close_notify.
func (c *Conn) Open(raw, to, in []byte) (out []byte, n, used int, err error) {
	for len(in)-used >= header {
		rec := in[used:]
		kind, size := rec[0], int(rec[3])<<8|int(rec[4])
		most := max12
		if c.version == tls.VersionTLS13 {
			most = max13
		}
		switch {
		case rec[1] != 3, rec[2] != 3 && c.version == tls.VersionTLS12: // TLS 1.3 authenticates what it ignores
			raw, err = c.refuse(raw, alertProtocolVersion, "a record of another protocol has come")
			return raw, n, used, err
		case size > most:
			raw, err = c.refuse(raw, alertRecordOverflow, "a record is too long")
			return raw, n, used, err
		case len(rec) < header+size:
			return raw, n, used, nil
		case len(to)-n < MaxPlain && size > len(to)-n:
			return raw, n, used, nil
		}
		used += header + size
		kind, plain, code, text := c.open(kind, rec[:header+size])
		if text != "" {
			raw, err = c.refuse(raw, code, text)
			return raw, n, used, err
		}
		if kind == typeData && len(plain) > 0 {
			n += copy(to[n:], plain)
			c.useless, c.burst = 0, 0
			c.earn(len(plain))
			continue
		}
		if raw, err = c.besides(raw, kind, plain); err != nil {
			return raw, n, used, err
		}
	}
	return raw, n, used, nil
}

// earn reduces the count of key updates for data that came.
func (c *Conn) earn(n int) {
	if c.updates == 0 {
		return
	}
	if c.credit += uint32(n); c.credit >= updateEvery {
		c.credit = 0
		c.updates--
	}
}

// Peek opens a copy of one complete record, without a judgement of what is in it.
func (c *Conn) Peek(rec []byte) (kind byte, content []byte, ok bool) {
	kind, content, _, why := c.open(rec[0], append([]byte(nil), rec...))
	return kind, content, why == ""
}

// open opens one complete record in place, and returns its inner type and content; or the code of an alert, and why.
func (c *Conn) open(kind byte, rec []byte) (inner byte, plain []byte, code byte, why string) {
	h := &c.in
	h.warm(c.version, c.suite)
	body := rec[header:]
	r := c.room
	var err error
	if c.version == tls.VersionTLS13 {
		if kind != typeData {
			return 0, nil, alertUnexpectedMessage, "a record that is not sealed has come behind the handshake"
		}
		if plain, err = h.aead.Open(body[:0], h.nonce(r), body, rec[:header]); err != nil {
			return 0, nil, alertBadRecordMAC, "a record can't be opened"
		}
		h.seq++
		if len(plain) > MaxPlain+1 {
			return 0, nil, alertRecordOverflow, "a record is too long"
		}
		end := len(plain) - 1
		for end >= 0 && plain[end] == 0 { // padding, RFC 8446 section 5.4
			end--
		}
		if end < 0 {
			return 0, nil, alertUnexpectedMessage, "a record is nothing but padding"
		}
		return plain[end], plain[:end], 0, ""
	}
	n := len(body) - overhead
	var nonce []byte
	if c.suite.salt == 4 {
		if n -= said; n < 0 {
			return 0, nil, alertBadRecordMAC, "a record is too short"
		}
		nonce = h.nonceSaid(r, body[:said])
		body = body[said:]
	} else if nonce = h.nonce(r); n < 0 {
		return 0, nil, alertBadRecordMAC, "a record is too short"
	}
	if plain, err = h.aead.Open(body[:0], nonce, body, h.extra(r, kind, n)); err != nil {
		return 0, nil, alertBadRecordMAC, "a record can't be opened"
	}
	h.seq++
	if len(plain) > MaxPlain {
		return 0, nil, alertRecordOverflow, "a record is too long"
	}
	return kind, plain, 0, ""
}

// besides handles a record that holds no data.
func (c *Conn) besides(raw []byte, kind byte, plain []byte) ([]byte, error) {
	if c.useless++; c.useless > maxUseless {
		raw, _ = c.refuse(raw, alertUnexpectedMessage, "")
		return raw, &Alert{Code: alertUnexpectedMessage, Err: errTooMuch}
	}
	switch kind {
	case typeData:
		return raw, nil
	case typeAlert:
		return c.alerted(raw, plain)
	case typeHandshake:
		return c.message(raw, plain)
	}
	return c.refuse(raw, alertUnexpectedMessage, "a record of an unknown type has come")
}

// alerted handles an alert from the peer.
func (c *Conn) alerted(raw, plain []byte) ([]byte, error) {
	switch {
	case len(plain) != 2:
		return c.refuse(raw, alertDecodeError, "an alert has the wrong length")
	case plain[1] == alertCloseNotify:
		return raw, io.EOF
	case plain[1] == alertUserCanceled, c.version == tls.VersionTLS12 && plain[0] == 1:
		return raw, nil // a warning
	}
	c.ended = true // nothing may be sent any more, RFC 8446 section 6.2
	return raw, &Alert{Code: plain[1], Their: true}
}

// message handles handshake messages after the handshake. Each must be complete in its
// record.
func (c *Conn) message(raw, plain []byte) ([]byte, error) {
	if c.version == tls.VersionTLS12 {
		return c.refuse(raw, alertNoRenegotiation, "renegotiation is asked for, which there is none of")
	}
	for len(plain) > 0 {
		if len(plain) < 4 {
			return c.refuse(raw, alertDecodeError, "a message is cut")
		}
		n := int(plain[1])<<16 | int(plain[2])<<8 | int(plain[3])
		if n > len(plain)-4 {
			return c.refuse(raw, alertDecodeError, "a message is cut")
		}
		kind, body := plain[0], plain[4:4+n]
		plain = plain[4+n:]
		switch {
		case kind == typeNewSessionTicket && c.client:
			// It has no use without a session.
		case kind == typeKeyUpdate && n == 1 && body[0] <= 1 && len(plain) == 0: // nothing may follow with the old key
			if c.updates++; c.updates > maxUpdates {
				return c.refuse(raw, alertUnexpectedMessage, "the peer changes its key too often")
			}
			c.useless = 0
			c.in.next(c.suite)
			if body[0] == 1 && !c.ended {
				raw = c.update(raw, false)
			}
		case kind == typeKeyUpdate:
			return c.refuse(raw, alertDecodeError, "a change of keys is malformed")
		default:
			return c.refuse(raw, alertUnexpectedMessage, "a message has come that has no place behind the handshake")
		}
	}
	return raw, nil
}
