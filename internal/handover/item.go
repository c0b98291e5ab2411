package handover

import (
	"errors"
	"fmt"
	"time"

	"reuseportd/internal/eventloop"
	"reuseportd/internal/pack"
	"reuseportd/internal/wire"
)

// MaxFDs is the most descriptors of connections that one offer carries; the message has
// one more of its own.
const MaxFDs = wire.MaxFDs - 1

// Item is one connection in an offer.
type Item struct {
	Key string // config.Listener.Key of the listener that accepted it
	eventloop.Parcel
}

// ErrFormat is a format that is newer than this release's.
var ErrFormat = errors.New("unknown format")

// Encode writes items, and returns their descriptors in the order in which they must
// travel, and the format.
func Encode(items []Item) (b []byte, fds []int, format int) {
	format = formatOf(items)
	for i := range items {
		it := &items[i]
		b = pack.String(b, it.Key)
		b = appendParcel(b, &it.Parcel)
		if format >= 2 {
			b = appendJoint(b, &it.Parcel)
		}
		if format >= 3 {
			b = appendSeals(b, &it.Parcel)
		}
		b = appendLater(b)
		fds = it.AppendFDs(fds)
	}
	return b, fds, format
}

func appendParcel(b []byte, p *eventloop.Parcel) []byte {
	b = pack.String(b, p.Kind)
	b = pack.Uint(b, uint64(p.Facts))
	b = pack.Uint(b, uint64(p.Due))
	b = pack.Bytes(b, p.In)
	b = pack.Bytes(b, p.Out)
	b = pack.Bytes(b, p.Tail)
	b = pack.Bytes(b, p.State)
	b = pack.Uint(b, uint64(p.File+1))
	if p.File >= 0 {
		b = pack.Uint(b, uint64(p.Off))
		b = pack.Uint(b, uint64(p.Left))
	}
	return pack.Uint(b, uint64(len(p.Files)))
}

// Decode reads items in a format, and gives each its descriptors. The items' byte strings
// are slices of b.
func Decode(format int, b []byte, fds []int) ([]Item, error) {
	if format < 1 || format > Format {
		return nil, fmt.Errorf("%w %d: this release knows up to %d", ErrFormat, format, Format)
	}
	items := make([]Item, 0, len(fds))
	key := "" // of the previous item; most items are of the same listener
	d := decoder{Reader: pack.NewReader(b), fds: fds}
	for d.Len() > 0 {
		key = same(key, d.Bytes())
		it := Item{Key: key}
		d.parcel(&it.Parcel)
		if format >= 2 {
			d.joint(&it.Parcel)
		}
		if format >= 3 {
			d.seals(&it.Parcel)
		}
		readLater(d.Reader, format)
		if d.Err() != nil || d.short {
			return nil, pack.ErrMalformed
		}
		items = append(items, it)
	}
	if len(d.fds) > 0 {
		return nil, pack.ErrMalformed
	}
	return items, nil
}

// decoder reads parcels. Each takes the next descriptors.
type decoder struct {
	*pack.Reader
	fds   []int
	short bool   // there were too few descriptors
	kind  string // of the previous parcel; most are of the same kind
}

func (d *decoder) take() int {
	if len(d.fds) == 0 {
		d.short = true
		return -1
	}
	fd := d.fds[0]
	d.fds = d.fds[1:]
	return fd
}

func (d *decoder) parcel(p *eventloop.Parcel) {
	d.kind = same(d.kind, d.Bytes())
	p.Kind = d.kind
	p.Facts = uint32(d.Int(1<<32 - 1))
	p.Due = time.Duration(d.Int(1<<63 - 1))
	p.In, p.Out, p.Tail, p.State = d.Bytes(), d.Bytes(), d.Bytes(), d.Bytes()
	p.FD, p.File = d.take(), -1
	if d.Uint() > 0 {
		p.File = d.take()
		p.Off, p.Left = int64(d.Int(1<<63-1)), int64(d.Int(1<<63-1))
	}
	for n := d.Int(MaxFDs); n > 0 && !d.short; n-- {
		p.Files = append(p.Files, d.take())
	}
}

// same returns b as a string. If that equals s it returns s, without an allocation.
func same(s string, b []byte) string {
	if string(b) == s {
		return s
	}
	return string(b)
}
