package accesslog

import (
	"net/netip"
	"testing"
	"time"

	"reuseportd/internal/service/http/message"
)

// BenchmarkLogLine is a line of the access log in both formats.
func BenchmarkLogLine(b *testing.B) {
	var r message.Request
	scratch := make([]byte, 0, 1024)
	in := []byte("GET /static/app.css?v=12 HTTP/1.1\r\nHost: www.example.com\r\n" +
		"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\nReferer: https://www.example.com/\r\n\r\n")
	r.Method, r.Target, r.Minor = []byte("GET"), in[4:28], 1
	if status := r.ReadFields(in[len("GET /static/app.css?v=12 HTTP/1.1\r\n"):len(in)-2], r.Target, &scratch); status != 0 {
		b.Fatal(status)
	}
	now, addr, room := time.Now(), netip.MustParseAddrPort("192.0.2.1:40000"), make([]byte, 0, 1024)
	b.Run("combined", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			appendCombined(room, &r, &Line{From: addr, At: now, Status: 200, Size: 1234})
		}
	})
	b.Run("json", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			appendJSON(room, &r, &Line{From: addr, At: now, Status: 200, Size: 1234})
		}
	})
}
