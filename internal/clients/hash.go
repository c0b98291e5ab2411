package clients

import (
	"crypto/rand"
	"encoding/binary"
	"math/bits"
	"net/netip"
)

// key is the secret of a service from which clients' places in the table are derived, so that
// nobody can choose addresses that share a place.
type key [2]uint64

func newKey() (k key, err error) {
	var b [16]byte
	if _, err := rand.Read(b[:]); err != nil {
		return k, err
	}
	return key{binary.NativeEndian.Uint64(b[:8]), binary.NativeEndian.Uint64(b[8:])}, nil
}

// sum is SipHash-2-4 of words (Aumasson and Bernstein, 2012).
func (k key) sum(words ...uint64) uint64 {
	v0, v1 := k[0]^0x736f6d6570736575, k[1]^0x646f72616e646f6d
	v2, v3 := k[0]^0x6c7967656e657261, k[1]^0x7465646279746573
	rounds := func(n int) {
		for range n {
			v0 += v1
			v2 += v3
			v1 = bits.RotateLeft64(v1, 13) ^ v0
			v3 = bits.RotateLeft64(v3, 16) ^ v2
			v0 = bits.RotateLeft64(v0, 32)
			v2 += v1
			v0 += v3
			v1 = bits.RotateLeft64(v1, 17) ^ v2
			v3 = bits.RotateLeft64(v3, 21) ^ v0
			v2 = bits.RotateLeft64(v2, 32)
		}
	}
	for _, w := range words {
		v3 ^= w
		rounds(2)
		v0 ^= w
	}
	last := uint64(len(words)*8) << 56
	v3 ^= last
	rounds(2)
	v0 ^= last
	v2 ^= 0xff
	rounds(4)
	return v0 ^ v1 ^ v2 ^ v3
}

// text is like sum, for a string.
func (k key) text(s string) uint64 {
	words := []uint64{uint64(len(s))}
	for len(s) > 0 {
		var b [8]byte
		s = s[copy(b[:], s):]
		words = append(words, binary.LittleEndian.Uint64(b[:]))
	}
	return k.sum(words...)
}

// client is a client at a listener, in the form in which the table has it.
type client struct {
	mark uint64    // 40 bits, not 0: with its sets, no two clients share it in practice
	set  [2]uint64 // where it can be
}

// client returns the client of an address: an IPv4 address, or the /64 of an IPv6 one, the least
// that one customer is given (RFC 6177).
func (k key) client(listener uint64, a netip.Addr) client {
	a = a.Unmap()
	var h uint64
	if a.Is4() {
		b := a.As4()
		h = k.sum(listener, uint64(binary.BigEndian.Uint32(b[:])), 4)
	} else {
		b := a.As16()
		h = k.sum(listener, binary.BigEndian.Uint64(b[:8]), 6)
	}
	c := client{mark: max(h>>24, 1), set: [2]uint64{h % sets, h / sets % sets}}
	if c.set[0] == c.set[1] {
		c.set[1] ^= 1
	}
	return c
}
