package message

import (
	"testing"
	"time"
)

// BenchmarkDate is the date's line, which is made once a second.
func BenchmarkDate(b *testing.B) {
	now, room := time.Now(), make([]byte, 0, 64)
	b.ReportAllocs()
	for b.Loop() {
		AppendHTTPDate(room, now)
	}
}
