package message

import "testing"

// Eight bytes at a time say the same as one at a time.
func TestPrintable(t *testing.T) {
	for at := range 24 {
		for b := range 256 {
			in := []byte("abcdefgh\xff\x80 ~jklmnopqrstuv")
			in[at] = byte(b)
			want := len(in) / 8 * 8
			if b < ' ' || b == 0x7f {
				want = at / 8 * 8
			}
			for n := range len(in) + 1 {
				if got := printable(in[:n]); got != min(n/8*8, want) {
					t.Fatalf("%q: %d, want %d", in[:n], got, min(n/8*8, want))
				}
			}
		}
	}
}
