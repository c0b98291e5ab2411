package handover

import (
	"reuseportd/internal/eventloop"
	"reuseportd/internal/pack"
)

// joined reports whether an item is more than one connection.
func (it *Item) joined() bool { return it.Partner != nil }

// appendJoint writes what a connection in a pair has beyond others: what it passes, and
// its partner.
func appendJoint(b []byte, p *eventloop.Parcel) []byte {
	if p.Partner == nil {
		return pack.Uint(b, 0)
	}
	b = pack.Uint(b, 1)
	b = appendPassing(b, p)
	b = appendParcel(b, p.Partner)
	return appendPassing(b, p.Partner)
}

func appendPassing(b []byte, p *eventloop.Parcel) []byte {
	return pack.Uint(pack.Uint(b, uint64(p.Passing+1)), p.Passed)
}

func (d *decoder) joint(p *eventloop.Parcel) {
	if d.Int(1) == 0 {
		return
	}
	d.passing(p)
	p.Partner = new(eventloop.Parcel)
	d.parcel(p.Partner)
	d.passing(p.Partner)
}

func (d *decoder) passing(p *eventloop.Parcel) {
	p.Passing = int64(d.Uint()) - 1
	p.Passed = d.Uint()
	if p.Passing < -1 {
		d.short = true
	}
}
