package wire

import (
	"encoding/binary"
	"fmt"
)

// Version is the protocol that this release speaks. It changes only when an
// older receiver would misread a message; new kinds, and new fields in a body,
// don't change it.
const Version = 1

const (
	// MaxBody bounds a body in bytes. Header and body must fit the default
	// send buffer (net.core.wmem_default, 212 992 bytes with its accounting);
	// what may be larger travels in a Memfd.
	MaxBody = 128 << 10
	// MaxFDs is the kernel's SCM_MAX_FD, unix(7).
	MaxFDs = 253
)

// A header is 16 bytes, big endian:
//
//	0  magic    4  "RPDW"
//	4  version  2
//	6  kind     2
//	8  fds      2  descriptors that come with the message
//	10 zero     2
//	12 length   4  bytes of body that follow
//
// Its layout is the same in every version, so that a receiver can always say
// which message it didn't understand.
type header struct {
	version uint16
	kind    Kind
	fds     int
	length  int
}

const (
	headerSize = 16
	magic      = "RPDW"
)

func (h header) appendTo(b []byte) []byte {
	b = append(b, magic...)
	b = binary.BigEndian.AppendUint16(b, h.version)
	b = binary.BigEndian.AppendUint16(b, uint16(h.kind))
	b = binary.BigEndian.AppendUint16(b, uint16(h.fds))
	b = binary.BigEndian.AppendUint16(b, 0)
	return binary.BigEndian.AppendUint32(b, uint32(h.length))
}

// parse reads one datagram. It returns ErrMalformed if the bytes are no message of any
// version. Otherwise header and body are as sent, and the error is a *VersionError or a
// *KindError if this release doesn't understand the message.
func parse(b []byte) (header, []byte, error) {
	if len(b) < headerSize || string(b[:4]) != magic {
		return header{}, nil, fmt.Errorf("%w: %d bytes without a header", ErrMalformed, len(b))
	}
	h := header{
		version: binary.BigEndian.Uint16(b[4:]),
		kind:    Kind(binary.BigEndian.Uint16(b[6:])),
		fds:     int(binary.BigEndian.Uint16(b[8:])),
		length:  int(binary.BigEndian.Uint32(b[12:])),
	}
	body := b[headerSize:]
	switch {
	case h.version == 0:
		return h, nil, fmt.Errorf("%w: version 0", ErrMalformed)
	case h.length != len(body):
		return h, nil, fmt.Errorf("%w: %s says %d bytes of body, has %d", ErrMalformed, h.kind, h.length, len(body))
	case h.fds > MaxFDs:
		return h, nil, fmt.Errorf("%w: %s says %d descriptors", ErrMalformed, h.kind, h.fds)
	case h.version > Version:
		return h, body, &VersionError{Version: h.version, Kind: h.kind}
	case binary.BigEndian.Uint16(b[10:]) != 0:
		return h, nil, fmt.Errorf("%w: %s with reserved bits", ErrMalformed, h.kind)
	case !h.kind.Known():
		return h, body, &KindError{Kind: h.kind}
	}
	return h, body, nil
}
