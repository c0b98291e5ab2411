package conformance

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	service "reuseportd/internal/service/http"
)

// BenchmarkExchange is requests by a client of the same process, through a real socket and a
// real loop: with 64 in a row the system calls and switches of both hardly count, and what is
// left is the handler's way from bytes to answer.
func BenchmarkExchange(b *testing.B) {
	root := b.TempDir()
	for name, size := range map[string]int{"small": 4 << 10, "large": 1 << 20} {
		if err := os.WriteFile(root+"/"+name, make([]byte, size), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	for _, c := range []struct {
		name, in string
		answers  int
	}{
		{"kept", get, 1},
		{"pipelined", strings.Repeat(get, 64), 64},
		{"file", "GET /files/small HTTP/1.1\r\nHost: h\r\n\r\n", 1},
		{"large file", "GET /files/large HTTP/1.1\r\nHost: h\r\n\r\n", 1},
	} {
		b.Run(c.name, func(b *testing.B) {
			s := serve(b, "tcp", base(root), service.Options{AccessLog: -1})
			exchange(b, rawDial(b, s.addr), c.in, c.answers)
		})
	}
	b.Run("proxied", func(b *testing.B) {
		s, _ := front(b, "tcp", proxying(), app(fastBackend(b, ok)))
		exchange(b, rawDial(b, s.addr), get, 1)
	})
	b.Run("connection", func(b *testing.B) {
		s := serve(b, "tcp", base(""), service.Options{AccessLog: -1})
		at, buf := rawAddress(b, s.addr), make([]byte, 4<<10)
		b.ReportAllocs()
		for b.Loop() {
			rawConnection(b, at, closing, false, buf)
		}
	})
}

func exchange(b *testing.B, fd int, in string, answers int) {
	buf := make([]byte, 64<<10)
	b.ReportAllocs()
	for b.Loop() {
		rawWrite(b, fd, in)
		rawAnswers(b, fd, buf, answers)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*answers), "ns/request")
}

// closing is a request that is the connection's last.
const closing = "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"

// rawConnection is a whole connection with one request.
func rawConnection(t testing.TB, to unix.Sockaddr, request string, byClient bool, buf []byte) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Connect(fd, to); err != nil {
		t.Fatal(err)
	}
	rawWrite(t, fd, request)
	rawAnswers(t, fd, buf, 1)
	if !byClient {
		if n, err := unix.Read(fd, buf); n != 0 || err != nil {
			t.Fatal(n, err)
		}
	}
	_ = unix.Close(fd)
}
