package h1

import (
	"strings"
	"testing"
)

// What a body of tiny chunks takes is counted, whoever reads it.
func TestTinyChunksAreWork(t *testing.T) {
	lim := Limits{Head: 1 << 10, Body: 1 << 20}
	for chunk, least := range map[string]int{"1\r\nx\r\n": 2 * 1000 * lineWork, "fa0\r\n" + strings.Repeat("x", 4000) + "\r\n": 2 * 1000 * lineWork} {
		in := []byte(strings.Repeat(chunk, 1000))
		lim.Body = int64(len(in))
		var k, again Chunks
		if n, status := k.Discard(in, lim); n != len(in) || status != 0 {
			t.Fatalf("%d of %d bytes, status %d", n, len(in), status)
		}
		for n := 0; n < len(in); {
			m, piece, status := again.Next(in[n:], lim)
			if n += m; piece == nil && n < len(in) || status != 0 {
				t.Fatalf("in pieces: %d of %d bytes, status %d", n, len(in), status)
			}
		}
		for _, k := range []*Chunks{&k, &again} {
			if n := k.Work(); n != least {
				t.Errorf("%d chunks of %d bytes are %d work, want %d", 1000, len(chunk), n, least)
			}
			if n := k.Work(); n != 0 {
				t.Errorf("and then %d", n)
			}
		}
	}
}
