package proxyproto

import (
	"encoding/binary"
	"net/netip"
	"strconv"
)

// MaxAppend is the most that Append appends, in bytes.
const MaxAppend = maxV1

// Append appends the header of version 1 or 2 for a connection from src to dst: TCP over
// IPv4 if both are IPv4 addresses, else over IPv6. If one is unknown, as those of Unix
// sockets are, the header has no addresses (UNKNOWN; LOCAL, which every receiver must
// accept).
func Append(b []byte, version int, src, dst netip.AddrPort) []byte {
	from, to := src.Addr().Unmap().WithZone(""), dst.Addr().Unmap().WithZone("")
	known := from.IsValid() && to.IsValid()
	if known && from.Is4() != to.Is4() {
		from, to = netip.AddrFrom16(from.As16()), netip.AddrFrom16(to.As16())
	}
	if version == 1 {
		return appendV1(b, known, netip.AddrPortFrom(from, src.Port()), netip.AddrPortFrom(to, dst.Port()))
	}
	b = append(b, signature...)
	switch {
	case !known:
		return append(b, local, unspecified, 0, 0)
	case from.Is4():
		b = append(b, proxy, tcp4, 0, 4+4+2+2)
		a, z := from.As4(), to.As4()
		b = append(append(b, a[:]...), z[:]...)
	default:
		b = append(b, proxy, tcp6, 0, 16+16+2+2)
		a, z := from.As16(), to.As16()
		b = append(append(b, a[:]...), z[:]...)
	}
	b = binary.BigEndian.AppendUint16(b, src.Port())
	return binary.BigEndian.AppendUint16(b, dst.Port())
}

func appendV1(b []byte, known bool, src, dst netip.AddrPort) []byte {
	switch {
	case !known:
		return append(b, "PROXY UNKNOWN\r\n"...)
	case src.Addr().Is4():
		b = append(b, "PROXY TCP4 "...)
	default:
		b = append(b, "PROXY TCP6 "...)
	}
	b = append(src.Addr().AppendTo(b), ' ')
	b = append(dst.Addr().AppendTo(b), ' ')
	b = append(strconv.AppendUint(b, uint64(src.Port()), 10), ' ')
	b = strconv.AppendUint(b, uint64(dst.Port()), 10)
	return append(b, "\r\n"...)
}
