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

// What a record has written it reads again, by the same calls.
func TestRecord(t *testing.T) {
	type values struct {
		n     int
		big   int64
		yes   bool
		bytes []byte
	}
	record := func(r *Record, v *values) {
		r.Int(&v.n, 1000)
		r.Int64(&v.big, math.MaxInt64)
		r.Bool(&v.yes)
		r.Bytes(&v.bytes)
	}
	in := values{1000, math.MaxInt64, true, []byte("text")}
	w := Writing([]byte("before"))
	record(w, &in)
	whole, ok := bytes.CutPrefix(w.Written(), []byte("before"))
	var out values
	r := Reading(whole)
	record(r, &out)
	if !ok || r.End() != nil || out.n != in.n || out.big != in.big || !out.yes || string(out.bytes) != "text" {
		t.Errorf("%v: %+v", r.End(), out)
	}
	for n := range whole {
		r := Reading(whole[:n])
		if record(r, &out); r.Err() == nil || r.End() == nil {
			t.Errorf("%d of %d bytes were read without complaint", n, len(whole))
		}
	}
	for name, b := range map[string][]byte{
		"a number beyond its limit": Bytes(Uint(Uint(Uint(nil, 1001), 0), 0), nil),
		"a negative number":         Bytes(Uint(Uint(Uint(nil, 0), 1<<63), 0), nil),
		"neither yes nor no":        Bytes(Uint(Uint(Uint(nil, 0), 0), 2), nil),
		"more than a record":        append(whole[:len(whole):len(whole)], 0),
	} {
		r := Reading(b)
		if record(r, &out); r.End() == nil {
			t.Errorf("%s is no error", name)
		}
	}
}
