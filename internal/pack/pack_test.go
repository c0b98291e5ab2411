package pack

import (
	"bytes"
	"math"
	"testing"
)

func TestRoundTrip(t *testing.T) {
	var b []byte
	for _, v := range []uint64{0, 1, 127, 128, math.MaxUint64} {
		b = Bytes(Uint(b, v), bytes.Repeat([]byte{'x'}, int(v%300)))
	}
	r := NewReader(b)
	for _, v := range []uint64{0, 1, 127, 128, math.MaxUint64} {
		if got, p := r.Uint(), r.Bytes(); got != v || len(p) != int(v%300) {
			t.Errorf("got %d and %d bytes, want %d", got, len(p), v)
		}
	}
	if err := r.End(); err != nil {
		t.Error(err)
	}
}

func TestShortInput(t *testing.T) {
	whole := Bytes(Uint(nil, 1<<40), []byte("text"))
	for n := range whole {
		r := NewReader(whole[:n])
		r.Uint()
		r.Bytes()
		if r.Err() == nil || r.Uint() != 0 || r.Bytes() != nil || r.End() == nil {
			t.Errorf("%d of %d bytes were read without complaint", n, len(whole))
		}
	}
	if r := NewReader(whole); r.Uint() == 0 || r.End() == nil {
		t.Error("what is left over is no error")
	}
	if r := NewReader(whole); r.Int(7) != 0 || r.Err() == nil {
		t.Error("a number beyond its limit is no error")
	}
}
