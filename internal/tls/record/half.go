package record

import (
	"crypto/cipher"
	"crypto/tls"
	"encoding/binary"
)

// half is one direction of a connection: a key, and the number of the next record. A number is never used twice with
// the same key, since that would reveal what was sealed.
type half struct {
	// secret is the traffic secret of TLS 1.3; for TLS 1.2 it is the key, then the salt.
	secret []byte
	seq    uint64
	*ready // nil while it is cold
}

// ready is what seals and opens.
type ready struct {
	aead cipher.AEAD
	salt [12]byte
}

// warm makes the cipher, if there is none.
func (h *half) warm(version uint16, s *suite) {
	if h.ready != nil {
		return
	}
	key, salt := h.secret[:min(s.key, len(h.secret))], h.secret[min(s.key, len(h.secret)):]
	if version == tls.VersionTLS13 {
		key, salt = s.expand(h.secret, "key", s.key), s.expand(h.secret, "iv", 12)
		defer clear(key)
		defer clear(salt)
	}
	aead, err := s.aead(key)
	if err != nil {
		panic(err) // New and Thaw have checked that a key has the length of its suite
	}
	h.ready = &ready{aead: aead}
	copy(h.salt[:], salt)
}

// cool frees what can be made again.
func (h *half) cool() {
	if h.ready != nil {
		clear(h.salt[:])
		h.ready = nil
	}
}

// next does the key update of TLS 1.3 (RFC 8446 section 7.2).
func (h *half) next(s *suite) {
	fresh := s.expand(h.secret, "traffic upd", len(h.secret))
	clear(h.secret)
	copy(h.secret, fresh)
	clear(fresh)
	h.seq = 0
	h.cool()
}

// wipe overwrites the key.
func (h *half) wipe() {
	clear(h.secret)
	h.secret = nil
	h.cool()
}

// Room has buffers for nonces and the like. All connections of a goroutine share one.
type Room struct {
	nonce [12]byte
	extra [13]byte
}

// nonce returns the nonce of the next record (RFC 8446 section 5.3, RFC 7905 section 2).
func (h *half) nonce(r *Room) []byte {
	r.nonce = h.salt
	seq := binary.BigEndian.Uint64(r.nonce[4:]) ^ h.seq
	binary.BigEndian.PutUint64(r.nonce[4:], seq)
	return r.nonce[:]
}

// nonceSaid returns the nonce of a record that contains a part of it (RFC 5288 section
// 3).
func (h *half) nonceSaid(r *Room, said []byte) []byte {
	r.nonce = h.salt
	copy(r.nonce[4:], said)
	return r.nonce[:]
}

// extra returns what TLS 1.2 authenticates besides a record's content (RFC 5246 section
// 6.2.3.3).
func (h *half) extra(r *Room, kind byte, n int) []byte {
	binary.BigEndian.PutUint64(r.extra[:], h.seq)
	r.extra[8], r.extra[9], r.extra[10] = kind, 3, 3
	r.extra[11], r.extra[12] = byte(n>>8), byte(n)
	return r.extra[:]
}
