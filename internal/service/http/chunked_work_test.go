package http

import (
	"strings"
	"testing"
)

// What a body of tiny chunks takes is counted, whoever reads it.
func TestTinyChunksAreWork(t *testing.T) {
	lim := limits{head: 1 << 10, body: 1 << 20}
	for chunk, least := range map[string]int{"1\r\nx\r\n": 2 * 1000 * lineWork, "fa0\r\n" + strings.Repeat("x", 4000) + "\r\n": 2 * 1000 * lineWork} {
		in := []byte(strings.Repeat(chunk, 1000))
		lim.body = int64(len(in))
		var k, again chunks
		if n, status := k.discard(in, lim); n != len(in) || status != 0 {
			t.Fatalf("%d of %d bytes, status %d", n, len(in), status)
		}
		if _, n, status := again.recode(nil, in, lim, &edit{}, false); n != len(in) || status != 0 {
			t.Fatalf("recode: %d of %d bytes, status %d", n, len(in), status)
		}
		for _, k := range []*chunks{&k, &again} {
			if n := k.work(); n != least {
				t.Errorf("%d chunks of %d bytes are %d work, want %d", 1000, len(chunk), n, least)
			}
			if n := k.work(); n != 0 {
				t.Errorf("and then %d", n)
			}
		}
	}
}
