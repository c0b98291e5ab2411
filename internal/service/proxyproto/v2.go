package proxyproto

import (
	"encoding/binary"
	"hash/crc32"
	"net/netip"
	"sync"
)

const (
	signature = "\r\n\r\n\x00\r\nQUIT\n"
	fixed     = len(signature) + 4 // version and command, family, length
	// maxV2 bounds what follows the fixed part, in bytes. The format allows 64 KiB, but even
	// a header with a client's certificate needs only a few.
	maxV2 = 16 << 10
)

// The bytes after the signature of version 2: version and command, then family and
// transport.
const (
	local = 0x20
	proxy = 0x21

	unspecified = 0x00
	tcp4        = 0x11
	tcp6        = 0x21
	unixStream  = 0x31
)

// parseV2 reads input that begins like a header of version 2.
func parseV2(in []byte) (h Header, n int, err error) {
	if len(in) <= len(signature) {
		return h, 0, nil
	}
	command := in[len(signature)]
	if command != local && command != proxy {
		return h, 0, errV2
	}
	size := -1 // of the addresses
	if len(in) > len(signature)+1 {
		if size = addresses(command, in[len(signature)+1]); size < 0 {
			return h, 0, errV2
		}
	}
	if len(in) < fixed {
		return h, 0, nil
	}
	length := int(binary.BigEndian.Uint16(in[fixed-2:]))
	switch {
	case length < size:
		return h, 0, errV2
	case length > maxV2:
		return h, 0, errLong
	case len(in) < fixed+length:
		return h, 0, nil
	}
	in = in[:fixed+length]
	h.Version = 2
	if command == local { // its addresses are to be discarded
		return h, len(in), nil
	}
	if err := checkTLVs(in, fixed+size); err != nil {
		return Header{}, 0, err
	}
	body := in[fixed:]
	switch in[len(signature)+1] {
	case tcp4:
		h.Source = endpoint(body[0:4], body[8:])
		h.Destination = endpoint(body[4:8], body[10:])
	case tcp6:
		h.Source = endpoint(body[0:16], body[32:])
		h.Destination = endpoint(body[16:32], body[34:])
	}
	return h, len(in), nil
}

// addresses returns the length of a family's addresses in bytes; -1 if there is no such
// family, or none that a stream can have.
func addresses(command, family byte) int {
	switch {
	case command == local || family == unspecified:
		return 0
	case family == tcp4:
		return 4 + 4 + 2 + 2
	case family == tcp6:
		return 16 + 16 + 2 + 2
	case family == unixStream:
		return 108 + 108
	}
	return -1
}

func endpoint(addr, port []byte) netip.AddrPort {
	a, _ := netip.AddrFromSlice(addr)
	return netip.AddrPortFrom(a.Unmap(), binary.BigEndian.Uint16(port))
}

// typeCRC32C is the only TLV (type, length, value) that a receiver has to understand.
const typeCRC32C = 0x03

// checkTLVs checks that those from index at on fill the header exactly, and the
// checksum if there is one.
func checkTLVs(in []byte, at int) error {
	sum := -1
	for at < len(in) {
		if len(in)-at < 3 {
			return errV2
		}
		kind, value := in[at], at+3
		at = value + int(binary.BigEndian.Uint16(in[at+1:]))
		if at > len(in) {
			return errV2
		}
		if kind == typeCRC32C {
			if sum >= 0 || at-value != 4 {
				return errV2
			}
			sum = value
		}
	}
	if sum >= 0 && checksum(in, sum) != binary.BigEndian.Uint32(in[sum:]) {
		return errSum
	}
	return nil
}

// castagnoli is made when it is first needed, since few services need it.
var castagnoli = sync.OnceValue(func() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) })

var zeros [4]byte // never changed; as a local variable of checksum it would be allocated

// checksum returns the checksum of a whole header, with zeros in place of the checksum at
// index at.
func checksum(in []byte, at int) uint32 {
	table := castagnoli()
	sum := crc32.Update(0, table, in[:at])
	sum = crc32.Update(sum, table, zeros[:])
	return crc32.Update(sum, table, in[at+4:])
}
