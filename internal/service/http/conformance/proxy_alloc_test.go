package conformance

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"reuseportd/internal/config"
	service "reuseportd/internal/service/http"
)

// fastBackend answers every read with the same bytes, without allocating.
func fastBackend(t testing.TB, answer string) (addr string) {
	t.Helper()
	b := listenRaw(t)
	done := make(chan bool)
	stop := make(chan int, 1)
	go func() {
		defer close(done)
		fd, _, err := unix.Accept4(b.fd, unix.SOCK_CLOEXEC)
		if err != nil {
			return
		}
		stop <- fd
		buf := make([]byte, 64<<10)
		for {
			n, err := unix.Read(fd, buf)
			if err != nil || n == 0 {
				break
			}
			_, _ = unix.Write(fd, unsafeBytes(answer))
		}
		_ = unix.Close(fd)
	}()
	t.Cleanup(func() {
		select {
		case fd := <-stop:
			_ = unix.Shutdown(fd, unix.SHUT_RDWR)
		default:
			_ = unix.Shutdown(b.fd, unix.SHUT_RDWR)
		}
		<-done
	})
	return b.addr
}

// TestProxyAllocatesNothing: requests on a kept connection, to a server whose connection is
// kept, leave nothing for the garbage collector.
func TestProxyAllocatesNothing(t *testing.T) {
	const chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nA: b\r\n\r\n"
	for _, c := range []struct{ name, in, answer string }{
		{"plain", get, ok},
		{"browser", "GET /a/b%20c/../d?q=1 HTTP/1.1\r\nHost: OTHER.example:8080\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\nAccept: */*\r\nAccept-Encoding: gzip\r\nConnection: keep-alive, x\r\nX: y\r\n\r\n", ok},
		{"post", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello", ok},
		{"chunks", get, chunked},
		{"large", get, "HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + strings.Repeat("x", 200000)},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, _ := front(t, "tcp", proxying(), app(fastBackend(t, c.answer)))
			conn := rawDial(t, s.addr)
			buf := make([]byte, 256<<10)
			run := func(n int) {
				for range n {
					rawWrite(t, conn, c.in)
					if c.answer == chunked {
						rawUntil(t, conn, buf, "0\r\nA: b\r\n\r\n")
					} else {
						rawAnswers(t, conn, buf, 1)
					}
				}
			}
			wantNoAllocation(t, run)
		})
	}
}

// TestProxyConnectionAllocatesNothing: nor do clients that come for one request, with a log of
// them.
func TestProxyConnectionAllocatesNothing(t *testing.T) {
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	conf := proxying()
	conf.AccessLog = &config.AccessLog{Format: "combined", File: "-"}
	s := serve(t, "tcp", conf, service.Options{AccessLog: int(null.Fd())},
		upstreams{confs: []config.Upstream{app(fastBackend(t, ok))}})
	at, buf := rawAddress(t, s.addr), make([]byte, 4<<10)
	wantNoAllocation(t, func(n int) {
		for range n {
			rawConnection(t, at, closing, false, buf)
		}
	})
}
