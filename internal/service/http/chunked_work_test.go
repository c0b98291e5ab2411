package http

import (
	"strings"
	"testing"

	"reuseportd/internal/service/http/h1"
)

// What a body of tiny chunks takes is counted, whoever reads it.
func TestTinyChunksAreWork(t *testing.T) {
	lim := h1.Limits{Head: 1 << 10, Body: 1 << 20}
	for chunk, least := range map[string]int{"1\r\nx\r\n": 2 * 1000 * h1.LineWork, "fa0\r\n" + strings.Repeat("x", 4000) + "\r\n": 2 * 1000 * h1.LineWork} {
		in := []byte(strings.Repeat(chunk, 1000))
		lim.Body = int64(len(in))
		var k, again h1.Chunks
		if n, status := k.Discard(in, lim); n != len(in) || status != 0 {
			t.Fatalf("%d of %d bytes, status %d", n, len(in), status)
		}
		if _, n, status := recode(&again, nil, in, lim, &edit{}, false); n != len(in) || status != 0 {
			t.Fatalf("recode: %d of %d bytes, status %d", n, len(in), status)
		}
		for _, k := range []*h1.Chunks{&k, &again} {
			if n := k.Work(); n != least {
				t.Errorf("%d chunks of %d bytes are %d work, want %d", 1000, len(chunk), n, least)
			}
			if n := k.Work(); n != 0 {
				t.Errorf("and then %d", n)
			}
		}
	}
}
