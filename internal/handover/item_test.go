package handover

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"testing"

	"reuseportd/internal/eventloop"
	"reuseportd/internal/pack"
)

// samples are items of every shape, with descriptors that are only numbers.
func samples() []Item {
	return []Item{
		{Key: "tls", Parcel: eventloop.Parcel{
			FD: 30, File: -1, Kind: "http.1", Transport: 1, Keys: []byte("keys"), Cipher: []byte("c"), Opened: []byte("o"), Sealed: []byte("s"), Word: 3,
			Partner: &eventloop.Parcel{FD: 31, File: -1, Kind: "http-upstream.1", Transport: 2, Keys: []byte("others")},
		}},
		{Key: "pair", Parcel: eventloop.Parcel{
			FD: 20, File: -1, Kind: "tcp.1", Passing: -1, Passed: 7, State: []byte("client"), Files: []int{21},
			Partner: &eventloop.Parcel{FD: 22, File: -1, Kind: "tcp-upstream.1", Passing: 1 << 40, In: []byte("in")},
		}},
		{Key: "127.0.0.1:80", Parcel: eventloop.Parcel{FD: 5, File: -1, Kind: "echo.1"}},
		{Key: "/run/s", Parcel: eventloop.Parcel{
			FD: 6, Facts: math.MaxUint32, In: []byte("in"), Out: bytes.Repeat([]byte("out"), 70),
			File: 0, Off: math.MaxInt64, Left: 1, Due: math.MaxInt64, Kind: "http.1", State: []byte("state"), Files: []int{7},
		}},
		{Parcel: eventloop.Parcel{FD: 8, Tail: []byte("tail"), File: -1, Due: 1, Files: []int{9, 10, 11}}},
		{Key: "k", Parcel: eventloop.Parcel{FD: 12, File: 13, Off: 0, Left: math.MaxInt64}},
	}
}

// plain makes items comparable: to have no bytes is to have an empty slice.
func plain(items []Item) []Item {
	for i := range items {
		for p := &items[i].Parcel; p != nil; p = p.Partner {
			for _, b := range []*[]byte{&p.In, &p.Out, &p.Tail, &p.State, &p.Keys, &p.Cipher, &p.Opened, &p.Sealed} {
				if p.Transport == 0 && b != &p.In && b != &p.Out && b != &p.Tail && b != &p.State {
					continue
				}
				if *b == nil {
					*b = []byte{}
				}
				*b = slices.Clip(*b)
			}
		}
	}
	return items
}

func TestRoundTrip(t *testing.T) {
	for n := range 2 * (len(samples()) + 1) {
		want := samples()[:n%(len(samples())+1)]
		if n > len(samples()) && len(want) > 0 {
			want = want[1:] // of the second format
		}
		b, fds, format := Encode(want)
		got, err := Decode(format, b, fds)
		if err != nil || len(got) != len(want) || len(want) > 0 && !reflect.DeepEqual(plain(got), plain(want)) {
			t.Errorf("%d items: got %+v, %v", n, got, err)
		}
	}
	if _, fds, _ := Encode(samples()); fmt.Sprint(fds) != "[30 31 20 21 22 5 6 0 7 8 9 10 11 12 13]" {
		t.Errorf("descriptors travel as %v", fds)
	}
}

// TestCut: whatever is missing, bytes or descriptors, or too much, is an error.
func TestCut(t *testing.T) {
	b, fds, format := Encode(samples())
	whole := map[int]int{0: 0} // bytes and descriptors of the first items
	for n := range samples() {
		b, fds, _ := Encode(samples()[:n+1])
		whole[len(b)] = len(fds)
	}
	for n := range b {
		for k := range len(fds) + 1 {
			items, err := Decode(format, b[:n], fds[:k])
			if own, ok := whole[n]; ok && own == k {
				if err != nil {
					t.Errorf("%d bytes, %d descriptors: %v", n, k, err)
				}
				continue
			}
			if !errors.Is(err, pack.ErrMalformed) || items != nil {
				t.Fatalf("%d bytes of %d, %d descriptors of %d: %d items, %v", n, len(b), k, len(fds), len(items), err)
			}
		}
	}
	for k := range fds {
		if _, err := Decode(format, b, fds[:k]); !errors.Is(err, pack.ErrMalformed) {
			t.Errorf("%d descriptors of %d: %v", k, len(fds), err)
		}
	}
	if _, err := Decode(format, b, append(fds, 99)); !errors.Is(err, pack.ErrMalformed) {
		t.Errorf("one descriptor too many: %v", err)
	}
	if _, err := Decode(format, append(b, 0), fds); !errors.Is(err, pack.ErrMalformed) {
		t.Errorf("one byte too many: %v", err)
	}
}

func TestUnknownFormat(t *testing.T) {
	b, fds, _ := Encode(samples())
	for _, format := range []int{-1, 0, Format + 1, math.MaxInt} {
		if items, err := Decode(format, b, fds); !errors.Is(err, ErrFormat) || items != nil {
			t.Errorf("format %d: %d items, %v", format, len(items), err)
		}
	}
}

// TestFirstFormat: what the first release wrote is read by this one, as it will be
// by all that follow. These bytes must never change.
func TestFirstFormat(t *testing.T) {
	b := []byte("\x03key\x04kind\x85\x01\xe8\x07\x02in\x03out\x00\x05state\x06\x0a\x14\x01" +
		"\x00\x00\x00\x00\x00\x00\x04tail\x00\x00\x00")
	got, err := Decode(1, b, []int{3, 4, 5, 6})
	want := []Item{
		{Key: "key", Parcel: eventloop.Parcel{
			FD: 3, Facts: 133, Due: 1000, In: []byte("in"), Out: []byte("out"), File: 4, Off: 10, Left: 20,
			Kind: "kind", State: []byte("state"), Files: []int{5},
		}},
		{Parcel: eventloop.Parcel{FD: 6, Tail: []byte("tail"), File: -1}},
	}
	if err != nil || !reflect.DeepEqual(plain(got), plain(want)) {
		t.Errorf("got %+v, %v", got, err)
	}
}

// TestThirdFormat: what the first release that knew transports wrote is read by this one. These bytes must never change.
func TestThirdFormat(t *testing.T) {
	b := []byte("\x03key\x04kind\x01\x00\x00\x00\x00\x00\x00\x00\x00\x07\x04keys\x06cipher\x06opened\x06sealed\x03" +
		"\x00\x04kind\x01\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x04kind\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x07\x01k\x00\x00\x00\x00")
	got, err := Decode(3, b, []int{3, 4, 5})
	want := []Item{
		{Key: "key", Parcel: eventloop.Parcel{
			FD: 3, File: -1, Facts: 1, Kind: "kind", Transport: 7, Keys: []byte("keys"), Cipher: []byte("cipher"),
			Opened: []byte("opened"), Sealed: []byte("sealed"), Word: 3,
		}},
		{Parcel: eventloop.Parcel{
			FD: 4, File: -1, Facts: 1, Kind: "kind", Passing: -1,
			Partner: &eventloop.Parcel{FD: 5, File: -1, Facts: 1, Kind: "kind", Passing: -1, Transport: 7, Keys: []byte("k")},
		}},
	}
	if err != nil || !reflect.DeepEqual(plain(got), plain(want)) {
		t.Errorf("got %+v, %v", got, err)
	}
	if again, _, format := Encode(got); Format == 3 && (format != 3 || !bytes.Equal(again, b)) {
		t.Errorf("written as format %d: %q", format, again)
	}
}

// FuzzDecode: no bytes make it panic, lose a descriptor or give one to two.
func FuzzDecode(f *testing.F) {
	for n := range len(samples()) + 1 {
		b, fds, _ := Encode(samples()[:n])
		f.Add(Format, b, uint8(len(fds)))
		f.Add(1, b, uint8(len(fds)))
	}
	f.Fuzz(func(t *testing.T, format int, b []byte, n uint8) {
		fds := make([]int, n)
		for i := range fds {
			fds[i] = 100 + i
		}
		items, err := Decode(format, b, slices.Clone(fds))
		if err != nil {
			if items != nil {
				t.Error("items with an error: both own the descriptors")
			}
			return
		}
		var got []int
		for i := range items {
			if items[i].Off < 0 || items[i].Left < 0 || items[i].Due < 0 {
				t.Errorf("negative: %+v", items[i])
			}
			got = append(got, items[i].FDs()...)
		}
		if !slices.Equal(got, fds) {
			t.Errorf("descriptors %v became %v", fds, got)
		}
		// What was understood is written again and understood the same.
		b, fds, format = Encode(items)
		again, err := Decode(format, b, fds)
		if err != nil || !reflect.DeepEqual(plain(again), plain(items)) {
			t.Errorf("%+v became %+v, %v", items, again, err)
		}
	})
}
