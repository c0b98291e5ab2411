package tcp_test

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// turns serves one connection to a server of sizes: it reads so many bytes, then writes so
// many, again and again until the client ends. It allocates nothing.
func turns(accept func() int, in, out int, done chan<- struct{}) {
	defer close(done)
	fd := accept()
	buf := make([]byte, 64<<10)
	for rawRead(fd, buf, in) && rawWrite(fd, buf, out) {
	}
	_ = unix.Close(fd)
}

// rawRead reads n bytes; false is the end, or an error.
func rawRead(fd int, buf []byte, n int) bool {
	for n > 0 {
		k, err := unix.Read(fd, buf[:min(n, len(buf))])
		if err == unix.EINTR {
			continue
		}
		if err != nil || k == 0 {
			return false
		}
		n -= k
	}
	return true
}

func rawWrite(fd int, buf []byte, n int) bool {
	for n > 0 {
		k, err := unix.Write(fd, buf[:min(n, len(buf))])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return false
		}
		n -= k
	}
	return true
}

// TestPairAllocatesNothing: what passes between a client and a server leaves nothing for the
// garbage collector, whether it is copied or spliced.
func TestPairAllocatesNothing(t *testing.T) {
	for name, c := range map[string]struct{ up, down int }{
		"messages": {64, 64},
		"upload":   {1 << 20, 1},
		"download": {1, 1 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			server, accept := silent(t)
			p := start(t, "tcp", nil, server)
			done := make(chan struct{})
			go turns(accept, c.up, c.down, done)
			client := p.connect(t)
			defer func() {
				_ = unix.Close(client)
				<-done
				p.empty(t)
			}()
			buf := make([]byte, 64<<10)
			run := func(n int) {
				for range n {
					if !rawWrite(client, buf, c.up) || !rawRead(client, buf, c.down) {
						t.Fatal("the connection broke off")
					}
				}
			}
			run(100)
			var a, b runtime.MemStats
			runtime.ReadMemStats(&a)
			run(500)
			runtime.ReadMemStats(&b)
			if got := b.Mallocs - a.Mallocs; got > 25 {
				t.Errorf("%d allocations for 500 turns", got)
			}
		})
	}
}

// BenchmarkPair is a message of 64 bytes to a server and back.
func BenchmarkPair(b *testing.B) {
	server, accept := silent(b)
	p := start(b, "tcp", nil, server)
	done := make(chan struct{})
	go turns(accept, 64, 64, done)
	client := p.connect(b)
	buf := make([]byte, 64)
	b.ReportAllocs()
	for b.Loop() {
		if !rawWrite(client, buf, 64) || !rawRead(client, buf, 64) {
			b.Fatal("the connection broke off")
		}
	}
	_ = unix.Close(client)
	<-done
	p.empty(b)
}
