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
	// maxV2 bounds what follows the fixed part. The format allows 64 KiB, but with a
	// client's certificate in it a header has no more than a few.
	maxV2 = 16 << 10
)

// The bytes that version 2 has behind its signature: version and command, and
// family and transport.
const (
	local = 0x20
	proxy = 0x21

	unspecified = 0x00
	tcp4        = 0x11
	tcp6        = 0x21
	unixStream  = 0x31
)

// parseV2 reads what begins as version 2.
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
	if command == local { // whatever it has is to be discarded
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

// addresses returns how many bytes the addresses of a family have; -1 if there is no
// such family, or none that a stream can have come by.
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

// typeCRC32C is the one TLV (type, length, value) that the receiver has to know.
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

// castagnoli is made when it is first needed, as few services have a use for it.
var castagnoli = sync.OnceValue(func() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) })

var zeros [4]byte // never changed; as a variable of checksum it would be allocated

// checksum is that of a whole header with zeros for the checksum itself, at index at.
func checksum(in []byte, at int) uint32 {
	table := castagnoli()
	sum := crc32.Update(0, table, in[:at])
	sum = crc32.Update(sum, table, zeros[:])
	return crc32.Update(sum, table, in[at+4:])
}
