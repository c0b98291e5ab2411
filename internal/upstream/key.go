package upstream

import "net/netip"

// KeyOf returns the key of a text for a Chooser. It is the same in all processes and
// releases, so that clients keep their servers.
func KeyOf(text []byte) uint64 {
	h := uint64(offset64)
	for _, b := range text {
		h = (h ^ uint64(b)) * prime64
	}
	return mix(h)
}

// KeyOfAddr returns the key of a client's address. An IPv4-mapped IPv6 address has the
// key of the IPv4 address; a zone is ignored.
func KeyOfAddr(a netip.Addr) uint64 {
	a = a.Unmap()
	if a.Is4() {
		b := a.As4()
		return KeyOf(b[:])
	}
	b := a.As16()
	return KeyOf(b[:])
}

// FNV-1a. Its last bytes hardly affect the upper bits; mix corrects that.
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
