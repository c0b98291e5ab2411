package handover

import (
	"math"

	"reuseportd/internal/eventloop"
	"reuseportd/internal/pack"
)

// sealed reports whether an item, or its partner, has a transport: plain connections have none.
func (it *Item) sealed() bool {
	return it.Transport != 0 || it.Partner != nil && it.Partner.Transport != 0
}

// appendSeals writes the transports of a connection and of its partner.
func appendSeals(b []byte, p *eventloop.Parcel) []byte {
	for ; p != nil; p = p.Partner {
		if b = pack.Uint(b, uint64(p.Transport)); p.Transport == 0 {
			continue
		}
		b = pack.Bytes(b, p.Keys)
		b = pack.Bytes(b, p.Cipher)
		b = pack.Bytes(b, p.Opened)
		b = pack.Bytes(b, p.Sealed)
		b = pack.Uint(b, uint64(p.Word))
	}
	return b
}

func (d *decoder) seals(p *eventloop.Parcel) {
	for ; p != nil; p = p.Partner {
		if p.Transport = uint16(d.Int(math.MaxUint16)); p.Transport == 0 {
			continue
		}
		p.Keys, p.Cipher, p.Opened, p.Sealed = d.Bytes(), d.Bytes(), d.Bytes(), d.Bytes()
		p.Word = eventloop.Word(d.Int(math.MaxUint8))
	}
}
