// Package pack writes numbers and byte strings one after another, for data that goes from
// one process to another in such numbers that JSON would be too slow. Numbers are
// unsigned varints (encoding/binary); byte strings are preceded by their length.
//
// It owns this encoding. It must never know what the data mean, or read beyond its input.
package pack

import (
	"encoding/binary"
	"errors"
)

// ErrMalformed is returned for bytes that were not packed in this order.
var ErrMalformed = errors.New("malformed record")

// Uint appends a number.
func Uint(b []byte, v uint64) []byte { return binary.AppendUvarint(b, v) }

// Bytes appends a byte string.
func Bytes(b, p []byte) []byte { return append(Uint(b, uint64(len(p))), p...) }

// String appends a byte string.
func String(b []byte, s string) []byte { return append(Uint(b, uint64(len(s))), s...) }

// Reader reads what was packed. After a failure every further value is zero, so that it
// is enough to check Err at the end.
type Reader struct {
	rest []byte
	bad  bool
}

// NewReader reads b, which must not change meanwhile.
func NewReader(b []byte) *Reader { return &Reader{rest: b} }

// Uint returns the next number.
func (r *Reader) Uint() uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 {
		r.bad, r.rest = true, nil
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

// Int is like Uint, for a number that must be at most limit.
func (r *Reader) Int(limit int) int {
	v := r.Uint()
	if v > uint64(limit) {
		r.bad, r.rest = true, nil
		return 0
	}
	return int(v)
}

// Bytes returns the next byte string, a slice of the input.
func (r *Reader) Bytes() []byte {
	n := r.Uint()
	if n > uint64(len(r.rest)) {
		r.bad, r.rest = true, nil
		return nil
	}
	p := r.rest[:n:n]
	r.rest = r.rest[n:]
	return p
}

// Len returns how many bytes are left.
func (r *Reader) Len() int { return len(r.rest) }

// Err returns an error if a value has been missing so far.
func (r *Reader) Err() error {
	if r.bad {
		return ErrMalformed
	}
	return nil
}

// End is like Err, but also returns an error if something is left.
func (r *Reader) End() error {
	if r.bad || len(r.rest) > 0 {
		return ErrMalformed
	}
	return nil
}
