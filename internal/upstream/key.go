package upstream

import "net/netip"

// KeyOf is the key of a text for a Chooser. It is the same in all processes and
// releases, so that a client's server stays.
func KeyOf(text []byte) uint64 {
	h := uint64(offset64)
	for _, b := range text {
		h = (h ^ uint64(b)) * prime64
	}
	return mix(h)
}

// KeyOfAddr is the key of a client's address; that of an IPv4 address that is mapped
// into IPv6 is the IPv4 address's, and a zone doesn't count.
func KeyOfAddr(a netip.Addr) uint64 {
	a = a.Unmap()
	if a.Is4() {
		b := a.As4()
		return KeyOf(b[:])
	}
	b := a.As16()
	return KeyOf(b[:])
}

// FNV-1a, whose last bytes hardly reach the upper bits; mix sees to that.
const (
	offset64 = 14695981039346656037
	prime64  = 1099511628211
)

// mix is the finalizer of MurmurHash3: each bit of x changes half of the result's.
func mix(x uint64) uint64 {
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}
