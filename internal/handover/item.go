package handover

import (
	"errors"
	"fmt"
	"time"

	"reuseportd/internal/eventloop"
	"reuseportd/internal/pack"
	"reuseportd/internal/wire"
)

// MaxFDs is the most descriptors of connections that one offer carries; the
// message has one of its own beside them.
const MaxFDs = wire.MaxFDs - 1

// Item is one connection in an offer.
type Item struct {
	Key string // config.Listener.Key of the listener that accepted it
	eventloop.Parcel
}

// ErrFormat is a format that is newer than this release's.
var ErrFormat = errors.New("unknown format")

// Encode writes items down in this release's format, and returns their
// descriptors in the order in which they must travel.
func Encode(items []Item) (b []byte, fds []int) {
	for i := range items {
		it := &items[i]
		b = pack.String(b, it.Key)
		b = pack.String(b, it.Kind)
		b = pack.Uint(b, uint64(it.Facts))
		b = pack.Uint(b, uint64(it.Due))
		b = pack.Bytes(b, it.In)
		b = pack.Bytes(b, it.Out)
		b = pack.Bytes(b, it.Tail)
		b = pack.Bytes(b, it.State)
		b = pack.Uint(b, uint64(it.File+1))
		if it.File >= 0 {
			b = pack.Uint(b, uint64(it.Off))
			b = pack.Uint(b, uint64(it.Left))
		}
		b = pack.Uint(b, uint64(len(it.Files)))
		b = appendLater(b)
		fds = it.AppendFDs(fds)
	}
	return b, fds
}

// Decode reads items of some format, whose byte strings lie in b, and gives each
// the descriptors that are its own.
func Decode(format int, b []byte, fds []int) ([]Item, error) {
	if format < 1 || format > Format {
		return nil, fmt.Errorf("%w %d: this release knows up to %d", ErrFormat, format, Format)
	}
	items := make([]Item, 0, len(fds))
	var key, kind string // of the item before, as most are of one kind
	take := func() int {
		if len(fds) == 0 {
			return -1
		}
		fd := fds[0]
		fds = fds[1:]
		return fd
	}
	r := pack.NewReader(b)
	for r.Len() > 0 {
		key, kind = same(key, r.Bytes()), same(kind, r.Bytes())
		it := Item{Key: key}
		it.Kind = kind
		it.Facts = uint32(r.Int(1<<32 - 1))
		it.Due = time.Duration(r.Int(1<<63 - 1))
		it.In, it.Out, it.Tail, it.State = r.Bytes(), r.Bytes(), r.Bytes(), r.Bytes()
		it.FD, it.File = take(), -1
		if r.Uint() > 0 {
			it.File = take()
			it.Off, it.Left = int64(r.Int(1<<63-1)), int64(r.Int(1<<63-1))
			if it.File < 0 {
				return nil, pack.ErrMalformed
			}
		}
		for range r.Int(MaxFDs) {
			fd := take()
			if fd < 0 {
				return nil, pack.ErrMalformed
			}
			it.Files = append(it.Files, fd)
		}
		readLater(r, format)
		if r.Err() != nil || it.FD < 0 {
			return nil, pack.ErrMalformed
		}
		items = append(items, it)
	}
	if len(fds) > 0 {
		return nil, pack.ErrMalformed
	}
	return items, nil
}

// same returns b as a string, which is s if it is the same.
func same(s string, b []byte) string {
	if string(b) == s {
		return s
	}
	return string(b)
}
